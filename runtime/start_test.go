package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestExit(t *testing.T) {
	root := rootfs(t)
	for _, test := range []struct {
		script string
		want   Exit
	}{
		{"exit 0", Exit{}},
		{"exit 3", Exit{Code: 3}},
		{"exit 255", Exit{Code: 255}},
		{"trap 'exit 9' TERM; kill -TERM $$; sleep 1", Exit{Code: 9}},
		{"sh -c 'kill -KILL $$'; exit $?", Exit{Code: 137}},
	} {
		if _, exit := run(t, Spec{Root: openDir(t, root)}, test.script); exit != test.want {
			t.Errorf("%s = %+v, want %+v", test.script, exit, test.want)
		}
	}
}

// TestUsage holds that what children and orphans of the command have used counts, and what forge has does not.
func TestUsage(t *testing.T) {
	root := rootfs(t)
	const script = `dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; (dd if=/dev/urandom of=/dev/null bs=1M count=64 2>/dev/null &); wait; dd if=/dev/urandom of=/dev/null bs=1M count=64 2>/dev/null`
	p, err := Start(t.Context(), Spec{Root: openDir(t, root), Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}}, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if u := p.Usage(); u.MaxRSS < 64<<20 || u.MaxRSS > 72<<20 || u.CPU < time.Millisecond {
		t.Errorf("used %+v, want 64 MB and some milliseconds", u)
	}
	p, err = Start(t.Context(), Spec{Root: openDir(t, root), Args: []string{"true"}, Env: []string{"PATH=/bin"}}, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if u := p.Usage(); u.MaxRSS == 0 || u.MaxRSS > 8<<20 {
		t.Errorf("true used %+v, want less than 8 MB", u)
	}
}

func TestSignal(t *testing.T) {
	root := rootfs(t)
	for _, test := range []struct {
		script string
		signal os.Signal
		want   Exit
	}{
		{"trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done", unix.SIGUSR1, Exit{Code: 9}},
		{"echo ready; sleep 100", os.Kill, Exit{Code: 137, Signal: 9}},
	} {
		r, w := io.Pipe()
		s := Spec{Root: openDir(t, root), Args: []string{"sh", "-c", test.script}, Env: []string{"PATH=/bin"}}
		p, err := Start(context.Background(), s, Stdio{Out: w})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if pid := p.Pid(); pid < 2 || unix.Kill(pid, 0) != nil {
			t.Errorf("process id %d", pid)
		}
		if err := p.Signal(test.signal); err != nil {
			t.Error(err)
		}
		if exit, err := p.Wait(); exit != test.want || err != nil {
			t.Errorf("%s = %+v, %v, want %+v", test.script, exit, err, test.want)
		}
		if err := p.Signal(test.signal); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal to the dead: %v", err)
		}
		if pid := p.Pid(); pid != 0 {
			t.Errorf("process id of the dead is %d", pid)
		}
	}
}

func TestErrors(t *testing.T) {
	root := rootfs(t)
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("bin/noexec", "#!/bin/sh\n", 0o644)
	write("bin/nonsense", "nonsense", 0o755)
	write("bin/orphan", "#!/bin/nothing\n", 0o755)
	write("etc/file", "", 0o644)
	if err := os.Symlink("/proc/self/root", filepath.Join(root, "magic")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		spec Spec
		want string
	}{
		{"unknown command", Spec{Args: []string{"nothing"}}, "*runtime.ExecError nothing: no such file or directory"},
		{"unknown path", Spec{Args: []string{"/bin/nothing"}}, "*runtime.ExecError /bin/nothing: no such file or directory"},
		{"not executable", Spec{Args: []string{"noexec"}}, "*runtime.ExecError /bin/noexec: permission denied"},
		{"directory", Spec{Args: []string{"/bin"}}, "*runtime.ExecError /bin: permission denied"},
		{"below a file", Spec{Args: []string{"/etc/file/x"}}, "*runtime.ExecError /etc/file/x: not a directory"},
		{"no format", Spec{Args: []string{"nonsense"}}, "*runtime.ExecError /bin/nonsense: exec format error"},
		{"no interpreter", Spec{Args: []string{"orphan"}}, "*runtime.ExecError orphan: no such file or directory"},
		{"not for this user", Spec{Args: []string{"/root/x"}, User: User{UID: 5}}, "*runtime.ExecError /root/x: no such file or directory"},
		{"empty command", Spec{Args: []string{""}}, "*runtime.ExecError : no such file or directory"},
		{"no command", Spec{}, "*runtime.SetupError command: there is none"},
		{"zero byte", Spec{Args: []string{"true", "a\x00b"}}, `*runtime.SetupError command: "a\x00b" has a zero byte`},
		{"no directory", Spec{Args: []string{"true"}, Dir: "/no/such"}, "*runtime.SetupError working directory /no/such: no such file or directory"},
		{"directory is a file", Spec{Args: []string{"true"}, Dir: "/etc/file"}, "*runtime.SetupError working directory /etc/file: not a directory"},
		{"directory by magic", Spec{Args: []string{"true"}, Dir: "/magic"}, "*runtime.SetupError working directory /magic: too many levels of symbolic links"},
		{"no mount point", Spec{Args: []string{"true"}, Mounts: []Mount{{Target: "/no"}}}, "*runtime.SetupError mount point /no: no such file or directory"},
		{"relative mount point", Spec{Args: []string{"true"}, Mounts: []Mount{{Target: "mnt"}}}, "*runtime.SetupError mount mnt: invalid argument"},
		{"capability", Spec{Args: []string{"true"}, Security: Security{CapAdd: []string{"SYS_ADMN"}}}, `*runtime.SetupError capabilities: there is no capability "SYS_ADMN"`},
		{"profile", Spec{Args: []string{"true"}, Security: Security{Seccomp: "{}"}}, "*runtime.SetupError seccomp profile: no defaultAction"},
		{"ulimit", Spec{Args: []string{"true"}, Limits: Limits{Ulimits: []Ulimit{{Name: "nofiles"}}}}, `*runtime.SetupError resource limits: ulimit nofiles: no such limit`},
	} {
		test.spec.Root = openDir(t, root)
		test.spec.Env = []string{"PATH=/usr/bin:/bin"}
		_, err := Start(context.Background(), test.spec, Stdio{})
		if got := fmt.Sprintf("%T %v", err, err); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	for _, name := range []string{"proc", "sys", "dev"} {
		for _, change := range []func(string) error{os.Remove, func(p string) error { return os.Symlink("/mnt", p) }} {
			if err := change(filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
			_, err := Start(context.Background(), Spec{Root: openDir(t, root), Args: []string{"/bin/true"}}, Stdio{})
			var set *SetupError
			if !errors.As(err, &set) || set.Step != "mount point /"+name {
				t.Errorf("without /%s: %v", name, err)
			}
		}
		if err := errors.Join(os.Remove(filepath.Join(root, name)), os.Mkdir(filepath.Join(root, name), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStdio(t *testing.T) {
	root := openDir(t, rootfs(t))
	start := func(script string, stdio Stdio) (*Process, error) {
		return Start(context.Background(), Spec{Root: root, Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}}, stdio)
	}
	t.Run("copied", func(t *testing.T) {
		in := strings.Repeat("0123456789abcdef", 1<<16)
		var out, err bytes.Buffer
		p, e := start("cat; echo bad >&2", Stdio{In: strings.NewReader(in), Out: &out, Err: &err})
		if e != nil {
			t.Fatal(e)
		}
		if exit, e := p.Wait(); exit.Code != 0 || e != nil || out.String() != in || err.String() != "bad\n" {
			t.Errorf("exit %v, %v, %d bytes, stderr %q", exit, e, out.Len(), err.String())
		}
	})
	t.Run("one writer for both", func(t *testing.T) {
		var out bytes.Buffer
		p, e := start("for i in 1 2 3; do echo out; echo err >&2; done", Stdio{Out: &out, Err: &out})
		if e != nil {
			t.Fatal(e)
		}
		p.Wait()
		if got := out.String(); got != "out\nerr\nout\nerr\nout\nerr\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a file is not the command's", func(t *testing.T) {
		f, e := os.Create(filepath.Join(t.TempDir(), "out"))
		if e != nil {
			t.Fatal(e)
		}
		defer f.Close()
		p, e := start("readlink /proc/self/fd/1", Stdio{Out: f})
		if e != nil {
			t.Fatal(e)
		}
		p.Wait()
		if b, _ := os.ReadFile(f.Name()); !strings.HasPrefix(string(b), "pipe:") {
			t.Errorf("got %q", b)
		}
	})
	t.Run("a writer that fails", func(t *testing.T) {
		p, e := start("yes | head -c 1000000", Stdio{Out: failingWriter{}})
		if e != nil {
			t.Fatal(e)
		}
		if exit, e := p.Wait(); exit.Code != 0 || !errors.Is(e, io.ErrShortWrite) {
			t.Errorf("exit %v, %v", exit, e)
		}
	})
	t.Run("a reader that never ends", func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		p, e := start("true", Stdio{In: r})
		if e != nil {
			t.Fatal(e)
		}
		if exit, e := p.Wait(); exit.Code != 0 || e != nil {
			t.Errorf("exit %v, %v", exit, e)
		}
	})
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// What the command left running is gone when Wait returns.
func TestWaitForAll(t *testing.T) {
	mark := longTime()
	out, exit := run(t, Spec{}, "for i in 1 2 3; do setsid sleep "+mark+" & done; sleep 0.05; exit 4")
	if exit.Code != 4 {
		t.Errorf("exit %v: %s", exit, out)
	}
	if left := processes(t, mark); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	mark := longTime()
	s := Spec{Root: openDir(t, rootfs(t)), Args: []string{"sh", "-c", "trap '' TERM INT; setsid sleep $0 & sleep $0", mark}, Env: []string{"PATH=/bin"}}
	p, err := Start(ctx, s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	exit, err := p.Wait()
	if exit.Code != 137 || !errors.Is(err, cause) {
		t.Errorf("exit %v, %v", exit, err)
	}
	if left := processes(t, mark); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Start(ctx, s, Stdio{}); !errors.Is(err, context.Canceled) {
		t.Errorf("start after the end: %v", err)
	}
}

// longTime is a time to sleep that outlasts any test, and that no other process sleeps for.
func longTime() string { return fmt.Sprint(100_000_000 + rand.IntN(900_000_000)) }

// processes are those with an argument that contains text.
func processes(t *testing.T, text string) (list []string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range dirs {
		b, _ := os.ReadFile(f)
		if strings.Contains(string(b), text) && !strings.Contains(string(b), "test") {
			list = append(list, f+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return list
}

// A root may be used again, and be a detached mount.
func TestDetachedRoot(t *testing.T) {
	dir := openDir(t, rootfs(t))
	fd, err := unix.OpenTree(int(dir.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		t.Fatal(err)
	}
	root := os.NewFile(uintptr(fd), "root")
	defer root.Close()
	runs := 3
	if fd, err := unix.OpenTree(int(root.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH); err == nil {
		unix.Close(fd)
	} else {
		runs = 1 // before Linux 6.15 it cannot be cloned, and the first container takes it
	}
	for i := range runs {
		out, exit := run(t, Spec{Root: root}, "ls / | head -n 1; touch /dev/null")
		if exit.Code != 0 || out != "bin\n" {
			t.Errorf("run %d: exit %v: %s", i, exit, out)
		}
	}
}

// Containers do not get in each other's way.
func TestParallel(t *testing.T) {
	long(t)
	root := openDir(t, rootfs(t))
	var group sync.WaitGroup
	for i := range 24 {
		group.Go(func() {
			var out bytes.Buffer
			s := Spec{Root: root, Args: []string{"sh", "-c", "echo $$ $N; cat; exit $N"}, Env: []string{"PATH=/bin", "N=" + itoa(i)}}
			p, err := Start(context.Background(), s, Stdio{In: strings.NewReader("in"), Out: &out})
			if err != nil {
				t.Error(err)
				return
			}
			exit, err := p.Wait()
			if err != nil || exit.Code != i || out.String() != "1 "+itoa(i)+"\nin" {
				t.Errorf("%d: exit %v, %v: %q", i, exit, err, out.String())
			}
		})
	}
	group.Wait()
}

// A context that ends at any moment of the start leaves nothing.
func TestCancelStart(t *testing.T) {
	long(t)
	root, mark := openDir(t, rootfs(t)), longTime()
	for i := range 40 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*100*time.Microsecond)
		p, err := Start(ctx, Spec{Root: root, Args: []string{"sleep", mark}, Env: []string{"PATH=/bin"}}, Stdio{})
		if err == nil {
			_, err = p.Wait()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %d00 µs: %v", i, err)
		}
		cancel()
	}
	if left := processes(t, mark); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Neither containers nor failures to make one leave descriptors behind.
func TestNoDescriptorsLeft(t *testing.T) {
	long(t)
	root, dir := openDir(t, rootfs(t)), openDir(t, t.TempDir())
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := 0
	for i := range 12 {
		if i == 2 { // what the first ones open for good is open
			before = count()
		}
		for _, s := range []Spec{
			{Args: []string{"true"}, Mounts: []Mount{{Target: "/mnt", Source: dir}}},
			{Args: []string{"true"}, Terminal: true},
			{Args: []string{"nothing"}},
			{Args: []string{"true"}, Dir: "/no"},
			{Args: []string{"true"}, Mounts: []Mount{{Target: "/no", Source: dir}}},
			{Args: []string{"true"}, Security: Security{CapAdd: []string{"x"}}},
			{Args: []string{"true"}, Security: Security{Seccomp: "x"}},
		} {
			s.Root, s.Env = root, []string{"PATH=/bin"}
			p, err := Start(context.Background(), s, Stdio{In: strings.NewReader(""), Out: io.Discard})
			if err == nil {
				p.Wait()
			}
		}
	}
	if now := count(); now > before {
		t.Errorf("%d descriptors, were %d", now, before)
	}
	if left := leftCgroups(t, os.Getpid()); left > 0 {
		t.Errorf("%d cgroups are left", left)
	}
}
