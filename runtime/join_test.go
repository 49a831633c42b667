package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// running starts a container that waits to be killed, and opens it.
func running(t testing.TB, s Spec) (*Process, *Target) {
	t.Helper()
	if s.Root == nil {
		s.Root = openDir(t, rootfs(t))
	}
	if s.Args == nil {
		s.Args = []string{"sleep", longTime()}
	}
	s.Env = []string{"PATH=/bin"}
	p, err := Start(context.Background(), s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Signal(os.Kill)
		p.Wait()
	})
	ref, err := p.Ref()
	if err != nil {
		t.Fatal(err)
	}
	target, err := Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return p, target
}

// join runs a shell script in a running container and returns its output.
func join(t testing.TB, target *Target, s Spec, script string) (string, Exit) {
	t.Helper()
	s.Args = []string{"sh", "-c", script}
	if s.Env == nil {
		s.Env = []string{"PATH=/bin"}
	}
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := Join(ctx, target, s, Stdio{Out: &out, Err: &out})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), exit
}

// What a process is like that joins: as the container's own, but for what was asked for.
func TestJoin(t *testing.T) {
	signal.Ignore(unix.SIGUSR2, syscall.Signal(40)) // what the caller ignores is not the container's
	t.Cleanup(func() { signal.Reset(unix.SIGUSR2, syscall.Signal(40)) })
	p, target := running(t, Spec{Hostname: "box", Limits: Limits{Memory: 64 << 20}})
	status := func(field string) string { return "grep ^" + field + ": /proc/self/status | tr -d '\\t'" }
	for _, test := range []struct {
		name, script, want string
		spec               Spec
	}{
		{name: "hostname", script: "hostname", want: "box"},
		{name: "not process 1", script: "test $$ -gt 1 && cut -d' ' -f1 /proc/1/comm", want: "sleep"},
		{name: "no parent there", script: "cut -d' ' -f4 /proc/$$/stat", want: "0"},
		{name: "session leader", script: "test $$ = $(cut -d' ' -f6 /proc/$$/stat) && echo yes", want: "yes"},
		{name: "permitted", script: status("CapPrm"), want: "CapPrm:00000000a80425fb"},
		{name: "bounding", script: status("CapBnd"), want: "CapBnd:00000000a80425fb"},
		{name: "permitted of a user", script: status("CapPrm"), want: "CapPrm:0000000000000000", spec: Spec{User: User{UID: 1000}}},
		{name: "capability added", script: status("CapEff"), want: "CapEff:00000000a80435fb", spec: Spec{Security: Security{CapAdd: []string{"NET_ADMIN"}}}},
		{name: "user", script: "id", want: "uid=5 gid=6 groups=7,8", spec: Spec{User: User{UID: 5, GID: 6, Groups: []uint32{7, 8}}}},
		{name: "no groups of the caller", script: "id", want: "uid=0 gid=0"},
		{name: "seccomp", script: status("Seccomp"), want: "Seccomp:2"},
		{name: "privileged", script: status("Seccomp"), want: "Seccomp:0", spec: Spec{Security: Security{Privileged: true}}},
		{name: "setuid works", script: status("NoNewPrivs"), want: "NoNewPrivs:0"},
		{name: "no new privileges", script: status("NoNewPrivs"), want: "NoNewPrivs:1", spec: Spec{Security: Security{NoNewPrivileges: true}}},
		{name: "umask", script: "umask", want: "0022"},
		{name: "environment", script: "env | sort", want: "A=b\nPATH=/bin\nPWD=/\nSHLVL=1", spec: Spec{Env: []string{"PATH=/bin", "A=b"}}},
		{name: "descriptors", script: "ls /proc/self/fd", want: "0\n1\n2\n3"},
		{name: "stdin", script: "cat; readlink /proc/self/fd/0; echo x >/dev/null && echo written", want: "/dev/null\nwritten"},
		{name: "no terminal", script: "(: </dev/tty) 2>/dev/null || echo none", want: "none"},
		{name: "directory", script: "pwd; readlink /proc/self/cwd", want: "/work\n/work", spec: Spec{Dir: "/work"}},
		{name: "root directory", script: "pwd; cd ..; ls -d bin; readlink /proc/self/root", want: "/\nbin\n/"},
		{name: "signals", script: "grep -E 'Sig(Ign|Blk)' /proc/self/status | tr -d '\\t'", want: "SigBlk:0000000000000000\nSigIgn:0000000000000000"},
		{name: "limit", script: "ulimit -Sn; ulimit -Sc", want: "99\n0", spec: Spec{Limits: Limits{Ulimits: []Ulimit{{"core", 0, 0}, {"nofile", 99, 100}}}}},
		{name: "devices", script: "mknod /tmp/kmsg c 1 11; cat /tmp/kmsg 2>/dev/null || echo guarded", want: "guarded"},
		{name: "exit", script: "exit 7", want: ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, exit := join(t, target, test.spec, test.script)
			if strings.TrimRight(got, "\n ") != test.want || test.name == "exit" && exit.Code != 7 {
				t.Errorf("exit %v, got:\n%s\nwant:\n%s", exit, got, test.want)
			}
		})
	}
	spaces := "for n in mnt pid net ipc uts cgroup; do readlink /proc/$0/ns/$n; done; cat /proc/$0/cgroup"
	got, _ := join(t, target, Spec{}, strings.ReplaceAll(spaces, "$0", "self"))
	if want, _ := join(t, target, Spec{}, strings.ReplaceAll(spaces, "$0", "1")); got != want || strings.Count(got, "[") != 6 {
		t.Errorf("namespaces and cgroups:\n%s\nof the container:\n%s", got, want)
	}
	if out, exit := join(t, target, Spec{}, "exec dd if=/dev/zero of=/dev/shm/x bs=1M count=90"); exit.Code != 137 {
		t.Errorf("90 MiB within a limit of 64: exit %+v: %s", exit, out)
	}
	if p.Pid() == 0 {
		t.Error("the container has ended")
	}
}

func TestJoinErrors(t *testing.T) {
	root := rootfs(t)
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("bin/noexec", "#!/bin/sh\n", 0o644)
	write("bin/nonsense", "nonsense", 0o755)
	if err := os.Symlink("/proc/self/root", filepath.Join(root, "magic")); err != nil {
		t.Fatal(err)
	}
	p, target := running(t, Spec{Root: openDir(t, root)})
	for _, test := range []struct {
		name string
		spec Spec
		want string
	}{
		{"unknown command", Spec{Args: []string{"nothing"}}, "*runtime.ExecError nothing: no such file or directory"},
		{"not executable", Spec{Args: []string{"noexec"}}, "*runtime.ExecError /bin/noexec: permission denied"},
		{"directory", Spec{Args: []string{"/bin"}}, "*runtime.ExecError /bin: permission denied"},
		{"no format", Spec{Args: []string{"nonsense"}}, "*runtime.ExecError /bin/nonsense: exec format error"},
		{"no command", Spec{}, "*runtime.SetupError command: there is none"},
		{"no directory", Spec{Args: []string{"true"}, Dir: "/no/such"}, "*runtime.SetupError working directory /no/such: no such file or directory"},
		{"directory by magic", Spec{Args: []string{"true"}, Dir: "/magic"}, "*runtime.SetupError working directory /magic: no such file or directory"},
		{"directory is a descriptor", Spec{Args: []string{"true"}, Dir: "/proc/self/fd/7"}, "*runtime.SetupError working directory /proc/self/fd/7: no such file or directory"},
		{"capability", Spec{Args: []string{"true"}, Security: Security{CapAdd: []string{"SYS_ADMN"}}}, `*runtime.SetupError capabilities: there is no capability "SYS_ADMN"`},
	} {
		test.spec.Env = []string{"PATH=/usr/bin:/bin"}
		_, err := Join(context.Background(), target, test.spec, Stdio{})
		if got := fmt.Sprintf("%T %v", err, err); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	// A device that is none does not stop the caller.
	if out, exit := join(t, target, Spec{Security: Security{Privileged: true}}, "umount -l /dev/null && rm /dev/null; mknod /dev/null p"); exit.Code != 0 {
		t.Fatal(out, exit)
	}
	_, err := Join(context.Background(), target, Spec{Args: []string{"true"}, Env: []string{"PATH=/bin"}}, Stdio{})
	if got := fmt.Sprintf("%T %v", err, err); got != "*runtime.SetupError stdio: no such device" {
		t.Errorf("a pipe for /dev/null: %s", got)
	}
	if p.Signal(os.Kill); !errors.Is(waitFor(p), nil) {
		t.Error("wait")
	}
	if _, err := Join(context.Background(), target, Spec{Args: []string{"true"}}, Stdio{}); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("join the dead: %v", err)
	}
}

func waitFor(p *Process) error {
	_, err := p.Wait()
	return err
}

func TestJoinTerminal(t *testing.T) {
	_, target := running(t, Spec{})
	r, w := io.Pipe()
	var out bytes.Buffer
	s := Spec{
		Env: []string{"PATH=/bin"}, Terminal: true, User: User{UID: 7, GID: 8},
		Args: []string{"sh", "-c", `read -r line; echo "got $line"; tty; stty size; ls -ln $(tty) | cut -c1-40; exec 3</dev/tty && echo ctty; sleep 1000 & exit 6`},
	}
	p, err := Join(context.Background(), target, s, Stdio{In: r, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Resize(33, 77); err != nil {
		t.Error(err)
	}
	if _, err := w.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(); err != nil || exit.Code != 6 {
		t.Errorf("exit %v, %v", exit, err)
	}
	for _, want := range []string{"got hello", "/dev/pts/0", "33 77", "ctty", "crw--w----    1 7        5"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// Input is copied, output is whole, and what outlives the process does not hold its caller up.
func TestJoinStdio(t *testing.T) {
	long(t)
	_, target := running(t, Spec{})
	in := strings.Repeat("0123456789abcdef", 1<<16)
	var out, stderr bytes.Buffer
	mark := longTime()
	s := Spec{Env: []string{"PATH=/bin"}, Args: []string{"sh", "-c", "cat; echo bad >&2; sleep $0 & exit 3", mark}}
	p, err := Join(context.Background(), target, s, Stdio{In: strings.NewReader(in), Out: &out, Err: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(); exit.Code != 3 || err != nil || out.String() != in || stderr.String() != "bad\n" {
		t.Errorf("exit %v, %v, %d bytes, stderr %q", exit, err, out.Len(), stderr.String())
	}
	if left := processes(t, mark); len(left) != 1 {
		t.Errorf("what it left running: %v", left)
	}
}

// It ends with its caller's wish, the caller, the container, and only itself.
func TestJoinEnds(t *testing.T) {
	long(t)
	p, target := running(t, Spec{})
	mark := longTime()
	s := Spec{Env: []string{"PATH=/bin"}, Args: []string{"sh", "-c", "trap '' TERM INT HUP; while :; do sleep $0; done", mark}}
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("enough")
	first, err := Join(ctx, target, s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the process does not run", func() bool { return len(processes(t, mark)) > 0 })
	cancel(cause)
	if exit, err := first.Wait(); exit.Code != 137 || !errors.Is(err, cause) {
		t.Errorf("cancelled: exit %v, %v", exit, err)
	}
	second, err := Join(context.Background(), target, s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	second.sock.Close() // as the kernel does when the caller is killed
	if err := unix.Waitid(unix.P_PID, second.supervisor, nil, unix.WEXITED, nil); err != nil {
		t.Error(err)
	}
	if err := second.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("left by its caller: %v", err)
	}
	third, err := Join(context.Background(), target, s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(third.supervisor, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit, err := third.Wait(); exit.Code != 137 || err != nil {
		t.Errorf("left by its supervisor: exit %v, %v", exit, err)
	}
	if p.Pid() == 0 {
		t.Fatal("the container has ended, too")
	}
	fourth, err := Join(context.Background(), target, s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	p.Signal(os.Kill)
	if exit, err := fourth.Wait(); exit.Code != 137 || err != nil {
		t.Errorf("left by its container: exit %v, %v", exit, err)
	}
	p.Wait()
	await(t, "something is left", func() bool { return len(processes(t, mark)) == 0 })
}

// Joining while the container ends is one or the other, and never hangs or leaves anything.
func TestJoinRace(t *testing.T) {
	root := openDir(t, rootfs(t))
	mark := longTime()
	done := 0
	for i := range 20 {
		p, target := running(t, Spec{Root: root})
		time.AfterFunc(time.Duration(i)*200*time.Microsecond, func() { p.Signal(os.Kill) })
		for {
			second, err := Join(context.Background(), target, Spec{Env: []string{"PATH=/bin"}, Args: []string{"sleep", mark}}, Stdio{})
			if err != nil {
				if !errors.Is(err, os.ErrProcessDone) {
					t.Errorf("join at the end: %v", err)
				}
				break
			}
			if exit, err := second.Wait(); exit.Code != 137 || err != nil {
				t.Errorf("exit %v, %v", exit, err)
			}
			done++
		}
		p.Wait()
	}
	if left := processes(t, mark); len(left) > 0 || done == 0 {
		t.Errorf("%d have joined, left are %v", done, left)
	}
}

// TestRootOfEnding: the root of a container that ends is there, or the container has ended; nothing between.
func TestRootOfEnding(t *testing.T) {
	long(t)
	for range 20 {
		p, target := running(t, Spec{})
		if err := p.Signal(os.Kill); err != nil {
			t.Fatal(err)
		}
		for {
			root, err := target.Root()
			if err != nil {
				if !errors.Is(err, os.ErrProcessDone) {
					t.Errorf("root of a container that ends: %v", err)
				}
				break
			}
			root.Close()
		}
		_, _ = p.Wait()
	}
}

// Many leave nothing.
func TestManyJoins(t *testing.T) {
	p, target := running(t, Spec{})
	rounds := 1000
	if testing.Short() {
		rounds = 20
	}
	count := func() (fds, children int) {
		list, _ := os.ReadDir("/proc/self/fd")
		b, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, f := range b {
			text, _ := os.ReadFile(f)
			if fields := strings.Fields(string(text)); len(fields) > 3 && fields[3] == itoa(os.Getpid()) {
				children++
			}
		}
		return len(list), children
	}
	s := Spec{Env: []string{"PATH=/bin"}, Args: []string{"true"}}
	var fds, children int
	for i := range rounds {
		if i == 2 {
			fds, children = count()
		}
		second, err := Join(context.Background(), target, s, Stdio{})
		if err != nil {
			t.Fatal(i, err)
		}
		if exit, err := second.Wait(); exit.Code != 0 || err != nil {
			t.Fatal(i, exit, err)
		}
		_, err = Join(context.Background(), target, Spec{Args: []string{"/nothing"}}, Stdio{})
		if !errors.Is(err, unix.ENOENT) {
			t.Fatal(i, err)
		}
	}
	if f, c := count(); f > fds || c > children {
		t.Errorf("%d descriptors and %d children, were %d and %d", f, c, fds, children)
	}
	if out, _ := join(t, target, Spec{}, "echo /proc/[0-9]*"); len(strings.Fields(out)) != 2 {
		t.Errorf("processes in the container: %s", out)
	}
	if ref, err := p.Ref(); err != nil || leftCgroups(t, os.Getpid()) > len(ref.Cgroups) {
		t.Errorf("%d cgroups, %v", leftCgroups(t, os.Getpid()), err)
	}
}
