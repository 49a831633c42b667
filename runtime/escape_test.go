package runtime

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Through /proc/self/exe a container once overwrote the program that started it (CVE-2019-5736). Here it finds a sealed
// file in memory at best, which does nothing to write to.
func TestOwnExecutable(t *testing.T) {
	root := rootfs(t)
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, root, map[string]string{"bin/script": "#!/proc/self/exe\n"})
	if err := errors.Join(os.Chmod(filepath.Join(root, "bin/script"), 0o755), os.Symlink("/proc/self/exe", filepath.Join(root, "bin/link"))); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"/proc/self/exe", "script", "link", "/proc/1/exe"} {
		// Whatever comes of it, it must end and not be us: as the test binary it would print usage or PASS.
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		p, err := Start(ctx, Spec{Root: openDir(t, root), Args: []string{command, "-test.run=^$"}, Env: []string{"PATH=/bin"}}, Stdio{Out: &out, Err: &out})
		if err == nil {
			_, err = p.Wait()
		}
		if cancel(); errors.Is(err, context.DeadlineExceeded) || out.Len() > 0 {
			t.Errorf("%s: %v: %s", command, err, out.String())
		}
	}
	// From outside: neither the supervisor nor the command is our binary.
	r, w := io.Pipe()
	p, err := Start(context.Background(), Spec{Root: openDir(t, root), Args: []string{"sh", "-c", "echo ready; sleep 100"}, Env: []string{"PATH=/bin"}}, Stdio{Out: w})
	if err != nil {
		t.Fatal(err)
	}
	r.Read(make([]byte, 10))
	for what, pid := range map[string]int{"supervisor": p.supervisor, "command": p.Pid()} {
		info, err := os.Stat("/proc/" + itoa(pid) + "/exe")
		if err != nil {
			t.Fatal(err)
		}
		if os.SameFile(info, self) {
			t.Errorf("the %s runs our binary", what)
		}
		maps, _ := os.ReadFile("/proc/" + itoa(pid) + "/maps")
		if strings.Contains(string(maps), "runtime.test") {
			t.Errorf("the %s has our binary in its memory", what)
		}
	}
	exe, err := os.OpenFile("/proc/"+itoa(p.supervisor)+"/exe", os.O_RDWR, 0)
	if err == nil {
		exe.Close()
		t.Error("the interpreter can be written to")
	}
	p.Signal(os.Kill)
	p.Wait()
}

// helperHang runs a container that does not want to die, and waits.
func helperHang() {
	root, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	s := Spec{
		Root: root, Env: []string{"PATH=/bin"}, Hostname: "hang", Limits: Limits{Memory: 64 << 20},
		Args: []string{"sh", "-c", "trap '' TERM INT HUP; /bin/free; setsid sleep $0 & echo ready; sleep $0", os.Args[2]},
	}
	p, err := Start(context.Background(), s, Stdio{Out: os.Stdout, Err: os.Stdout})
	if err != nil {
		panic(err)
	}
	p.Wait()
}

// When the caller is killed, everything goes: no process, no mount, no namespace; a cgroup with the next start.
func TestKilledCaller(t *testing.T) {
	long(t)
	root := rootfs(t)
	// A container can reset its parent death signal; it must not help.
	p := &program{}
	p.call(unix.SYS_PRCTL, num(unix.PR_SET_PDEATHSIG), num(0))
	p.call(unix.SYS_EXIT_GROUP, num(0))
	writeProgram(t, filepath.Join(root, "bin/free"), p, 1)
	var callers []int
	for range 3 {
		mark := longTime()
		cmd := helper(t, "hang", 0, root, mark)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() })
		if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		await(t, "the container does not run", func() bool { return len(processes(t, mark)) == 2 })
		space := namespaceOf(t, cmd, mark)
		cmd.Process.Kill()
		cmd.Wait()
		callers = append(callers, cmd.Process.Pid)
		gone := func() bool { return len(processes(t, mark)) == 0 && len(inNamespace(t, space)) == 0 }
		await(t, "something is left behind", gone)
	}
	left := func() (n int) {
		for _, pid := range callers {
			n += leftCgroups(t, pid)
		}
		return n
	}
	// The kernel may count the dead for a moment; then it takes one start more.
	for end := time.Now().Add(time.Minute); ; {
		run(t, Spec{}, "true")
		if left() == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d cgroups of dead callers", left())
		}
	}
}

// await asks until something is so, for as long as any machine should take.
func await(t *testing.T, otherwise string, ask func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ask(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(otherwise)
		}
	}
}

// namespaceOf is the mount namespace of the container of a helper.
func namespaceOf(t *testing.T, cmd *exec.Cmd, text string) string {
	t.Helper()
	list := processes(t, text)
	dir, _, _ := strings.Cut(list[0], "/cmdline")
	space, err := os.Readlink(dir + "/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	return space
}

// inNamespace are the processes in a mount namespace.
func inNamespace(t *testing.T, space string) (list []string) {
	t.Helper()
	links, _ := filepath.Glob("/proc/[0-9]*/ns/mnt")
	for _, l := range links {
		if s, _ := os.Readlink(l); s == space {
			list = append(list, l)
		}
	}
	return list
}

// leftCgroups counts cgroups of a caller.
func leftCgroups(t *testing.T, pid int) (n int) {
	t.Helper()
	parent, err := findCgroups()
	if err != nil {
		return 0
	}
	for _, dir := range parent.dir {
		list, _ := filepath.Glob(filepath.Join(dir, cgroupPrefix+itoa(pid)+"-*"))
		n += len(list)
	}
	return n
}

// If only the supervisor is killed, the container is, too.
func TestKilledSupervisor(t *testing.T) {
	mark := longTime()
	s := Spec{Root: openDir(t, rootfs(t)), Env: []string{"PATH=/bin"}, Args: []string{"sleep", mark}}
	p, err := Start(context.Background(), s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(p.supervisor, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(); err != nil || exit.Code != 137 {
		t.Errorf("exit %v, %v", exit, err)
	}
	if left := processes(t, mark); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
