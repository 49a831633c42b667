package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A halted set-up waits for ever where it would execute the command: with the rights of the container, and all else of its own.
type halted struct {
	pid   int // of the process that sets up
	ended chan error
}

// halt begins a set-up of a container, or in one that runs, that does not end by itself.
func halt(t *testing.T, ctx context.Context, s Spec, target *Target) halted {
	t.Helper()
	h := halted{ended: make(chan error, 1)}
	set, err := newSetup(ctx, &s)
	if err != nil {
		t.Fatal(err)
	}
	if target == nil && s.ownNetwork() {
		set.netns = newNetns()
	}
	plan := set.plan
	if s.Isolation == ByChroot {
		if err := set.newChroot(); err != nil {
			t.Fatal(err)
		}
		plan = set.planChroot
	}
	if target != nil {
		set.target = target
		flags, err := target.namespaces()
		if err != nil {
			t.Fatal(err)
		}
		plan = func() (int, error) { return set.planJoin(flags) }
	}
	go func() {
		defer set.close()
		_, err := set.start(ctx, Stdio{}, func() (int, error) {
			tail, err := plan()
			for _, o := range set.ops {
				if o.nr == unix.SYS_EXECVE && o.step == "exec" {
					o.nr, o.args = unix.SYS_PPOLL, [6]arg{}
				}
			}
			return tail, err
		})
		h.ended <- err
	}()
	await(t, "nothing is set up", func() bool {
		select {
		case err := <-h.ended:
			t.Fatalf("the set-up has ended: %v", err)
		default:
		}
		h.pid = settingUp()
		return h.pid != 0
	})
	return h
}

// settingUp is the process that waits before it would execute the command: the interpreter, as its parent is. 0 is none.
func settingUp() int {
	interprets := func(dir string) bool {
		exe, err := os.Readlink(dir + "/exe")
		return err == nil && strings.HasPrefix(exe, "/memfd:forge")
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		call, _ := os.ReadFile(dir + "/syscall")
		if !strings.HasPrefix(string(call), itoa(unix.SYS_PPOLL)+" 0x0 ") || !interprets(dir) {
			continue
		}
		if supervisor := parentOf(dir); interprets(supervisor) && parentOf(supervisor) == "/proc/"+itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			return pid
		}
	}
	return 0
}

// parentOf is the directory of a process's parent in /proc.
func parentOf(dir string) string {
	status, _ := os.ReadFile(dir + "/status")
	_, rest, _ := strings.Cut(string(status), "\nPPid:\t")
	number, _, _ := strings.Cut(rest, "\n")
	return "/proc/" + number
}

// Containers that have the host's pid namespace see the processes that set up others. Those have as few rights in the end, but
// the supervisor's memory.
func TestSetUpIsNotTraced(t *testing.T) {
	root := openDir(t, rootfs(t))
	p, target := running(t, Spec{Root: root})
	atHost := Namespaces{PID: Namespace{Host: true}}
	for name, test := range map[string]struct {
		spec   Spec
		target *Target
	}{
		"new":    {Spec{}, nil},
		"shared": {Spec{Shared: atHost}, nil},
		"chroot": {Spec{Isolation: ByChroot, Network: Network{Mode: "host"}}, nil},
		"join":   {Spec{}, target},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			test.spec.Args, test.spec.Env = []string{"true"}, []string{"PATH=/bin"}
			if test.spec.Root = root; name == "chroot" {
				test.spec.Root = openDir(t, rootfs(t))
			}
			h := halt(t, ctx, test.spec, test.target)
			out, _ := run(t, Spec{Root: root, Shared: atHost}, "for p in "+itoa(p.Pid())+" "+itoa(h.pid)+
				"; do (: <>/proc/$p/mem) 2>/dev/null && echo $p; done; true")
			if out != itoa(p.Pid())+"\n" {
				t.Errorf("could write to the memory of %q, want only that of the command %d", out, p.Pid())
			}
			cancel()
			<-h.ended
		})
	}
}

// Whoever cancels a start leaves nothing of it, also where no pid namespace ends with the supervisor, and a set-up that hangs.
func TestCancelledSetUp(t *testing.T) {
	root := openDir(t, rootfs(t))
	_, target := running(t, Spec{Root: root})
	for name, test := range map[string]struct {
		spec   Spec
		target *Target
	}{
		"new":    {Spec{}, nil},
		"shared": {Spec{Shared: Namespaces{PID: Namespace{Host: true}}}, nil},
		"other":  {Spec{Shared: Namespaces{PID: Namespace{Of: target}}}, nil},
		"chroot": {Spec{Isolation: ByChroot, Network: Network{Mode: "host"}}, nil},
		"join":   {Spec{}, target},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			test.spec.Args, test.spec.Env = []string{"true"}, []string{"PATH=/bin"}
			if test.spec.Root = root; name == "chroot" {
				test.spec.Root = openDir(t, rootfs(t))
			}
			h := halt(t, ctx, test.spec, test.target)
			cancel()
			if err := <-h.ended; !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			if err := unix.Kill(h.pid, 0); err != unix.ESRCH {
				t.Errorf("process %d is there after the end: %v", h.pid, err)
			}
		})
	}
}

// TestSupervisorKilledEarly: whose supervisor is killed while a process sets up executes no command, also where no pid namespace ends with it.
// Here the process itself does it, once it is of another group, and waits for that.
func TestSupervisorKilledEarly(t *testing.T) {
	for name, spec := range map[string]Spec{
		"shared": {Shared: Namespaces{PID: Namespace{Host: true}}}, "chroot": {Isolation: ByChroot},
	} {
		t.Run(name, func(t *testing.T) {
			spec.Args, spec.Env, spec.User.GID = []string{"echo", "executed"}, []string{"PATH=/bin"}, 1000
			spec.Root, spec.Network.Mode = openDir(t, rootfs(t)), "host"
			set, err := newSetup(t.Context(), &spec)
			if err != nil {
				t.Fatal(err)
			}
			defer set.close()
			plan := set.plan
			if spec.Isolation == ByChroot {
				plan, err = set.planChroot, set.newChroot()
			}
			r, w, pipeErr := os.Pipe()
			if err := errors.Join(err, pipeErr); err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			_, err = set.start(t.Context(), Stdio{Out: w}, func() (int, error) {
				tail, err := plan()
				supervisor, poll, last := set.word(), set.words(0, 0), (*op)(nil)
				stores := [][6]arg{{poll, set.self}, {poll.plus(4), num(unix.POLLIN)}}
				for _, o := range set.ops {
					switch {
					case o.nr == unix.SYS_KEYCTL:
						o.nr = unix.SYS_GETPPID
						o.into(supervisor)
					case o.nr == unix.SYS_PRCTL && o.args[0].n == unix.PR_CAPBSET_DROP && len(stores) > 0:
						o.nr, o.args, stores = opStore, stores[0], stores[1:]
					case o.nr == unix.SYS_PRCTL && o.args[0].n == unix.PR_CAP_AMBIENT:
						o.nr, o.args = unix.SYS_KILL, [6]arg{supervisor, num(unix.SIGKILL)}
					case o.nr == unix.SYS_UMASK:
						last = o
					}
				}
				last.nr, last.args = unix.SYS_PPOLL, [6]arg{poll, num(1)}
				return tail, err
			})
			if err == nil {
				t.Error("it has started")
			}
			w.Close()
			if out, err := io.ReadAll(r); len(out) > 0 || err != nil {
				t.Errorf("the command says %q, %v", out, err)
			}
		})
	}
}

// TestJoinedSupervisorKilledEarly: a process that joins executes no command if its supervisor is killed before it is bound to that. Here the
// helper does it, in the place of ending, and the process waits for that.
func TestJoinedSupervisorKilledEarly(t *testing.T) {
	root := openDir(t, rootfs(t))
	for name, shared := range map[string]Namespaces{"own": {}, "shared": {PID: Namespace{Host: true}}} {
		t.Run(name, func(t *testing.T) {
			_, target := running(t, Spec{Root: root, Shared: shared})
			flags, err := target.namespaces()
			if err != nil {
				t.Fatal(err)
			}
			set, err := newSetup(t.Context(), &Spec{Args: []string{"echo", "executed"}, Env: []string{"PATH=/bin"}})
			if err != nil {
				t.Fatal(err)
			}
			defer set.close()
			set.target = target
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			_, err = set.start(t.Context(), Stdio{Out: w}, func() (int, error) {
				tail, err := set.planJoin(flags)
				supervisor := set.word()
				for i, o := range set.ops {
					switch {
					case o.nr == unix.SYS_KEYCTL:
						o.nr = unix.SYS_GETPPID
						o.into(supervisor)
					case o.nr == unix.SYS_CLONE && o.args[0].n&unix.CLONE_PARENT != 0:
						set.ops[i+2].nr, set.ops[i+2].args = unix.SYS_KILL, [6]arg{supervisor, num(unix.SIGKILL)}
						set.ops[i+3].nr, set.ops[i+3].args = unix.SYS_PPOLL, [6]arg{num(0), num(0), set.words(0, 200_000_000)}
					}
				}
				return tail, err
			})
			if err == nil {
				t.Error("it has started")
			}
			w.Close()
			if out, err := io.ReadAll(r); len(out) > 0 || err != nil {
				t.Errorf("the command says %q, %v", out, err)
			}
		})
	}
}

// A report that a process of a container has written is an error like another.
func TestForgedReport(t *testing.T) {
	s := &setup{spec: &Spec{Args: []string{"x"}}}
	s.step = "first"
	s.call(unix.SYS_GETPID)
	report := func(at uint64) []byte {
		b := make([]byte, s.reportSize())
		binary.NativeEndian.PutUint64(b, at)
		return b
	}
	for name, test := range map[string]struct {
		msg  []byte
		step string
	}{
		"genuine": {report(programBase + headerSize), "first"},
		"before":  {report(programBase), "report"},
		"small":   {report(1), "report"},
		"between": {report(programBase + headerSize + 1), "report"},
		"behind":  {report(programBase + headerSize + opSize), "report"},
		"largest": {report(^uint64(0)), "report"},
		"short":   {report(0)[1:], "report"},
		"empty":   {nil, "report"},
	} {
		setupErr, ok := errors.AsType[*SetupError](s.outcome(test.msg))
		if !ok || setupErr.Step != test.step {
			t.Errorf("%s: %v, want an error of %s", name, setupErr, test.step)
		}
	}
}
