package runtime

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if IsReaper() {
		Reap()
		os.Exit(0)
	}
	if helper := os.Getenv("RUNTIME_TEST_HELPER"); helper != "" {
		helpers()[helper]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helpers are what the test binary does when a test executes it.
func helpers() map[string]func() {
	return map[string]func(){
		"userns":      helperUserns,
		"run":         helperRun,
		"subordinate": helperSubordinate,
		"hang":        helperHang,
		"chroot":      helperChroot,
		"mounts":      helperMounts,
		"unified":     helperUnified,
		"handover":    helperHandover,
		"join":        helperJoin,
		"other":       helperOther,
		"member":      helperMember,
	}
}

// helper is the test binary as another program, run by another user if uid is not 0.
func helper(t testing.TB, name string, uid uint32, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "forge-runtime-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "helper")
	if err := os.WriteFile(path, self, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "RUNTIME_TEST_HELPER="+name)
	cmd.Dir = "/"
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	return cmd
}

// need skips a test where something is missing, or fails it where FORGE_TEST_MUST says that it must not be.
func need(t testing.TB, what string, ok bool, why string) {
	t.Helper()
	if ok {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("FORGE_TEST_MUST"), ","), what) {
		t.Fatalf("needs %s: %s", what, why)
	}
	t.Skipf("needs %s: %s", what, why)
}

// rootfs makes a root directory with busybox in it.
func rootfs(t testing.TB) string {
	t.Helper()
	need(t, "root", os.Geteuid() == 0, "not root")
	dir := t.TempDir()
	makeRootfs(t, dir)
	return dir
}

func makeRootfs(t testing.TB, dir string) {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	need(t, "busybox", err == nil, "no /bin/busybox")
	for _, d := range []string{"bin", "proc", "sys", "dev", "tmp", "etc", "root", "mnt", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(applets) {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
}

// applets are what scripts of the tests use.
const applets = `sh cat ls id mount ps head wc echo true false sleep mknod chmod touch mkdir rm cut grep tty stty kill
	hostname ifconfig readlink stat env pwd setsid umask tr sort dd cp ln chroot ping umount nc ip route printf yes od df`

// A syscallTest is a program that makes one system call and exits with the error number.
func syscallProgram(t testing.TB, path string, nr uintptr, args ...arg) {
	t.Helper()
	p := &program{}
	p.call(nr, args...)
	p.call(unix.SYS_EXIT_GROUP, num(0))
	tail := len(p.ops)
	p.call(unix.SYS_EXIT_GROUP, arg{n: headerErr, part: inHeader, content: true})
	writeProgram(t, path, p, tail)
}

func writeProgram(t testing.TB, path string, p *program, tail int) {
	t.Helper()
	f, err := p.executable(tail)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

func openDir(t testing.TB, dir string) *os.File {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), dir)
	t.Cleanup(func() { f.Close() })
	return f
}

// run runs a shell script in a container and returns its output.
func run(t testing.TB, s Spec, script string) (string, Exit) {
	t.Helper()
	s.Args = []string{"sh", "-c", script}
	return runArgs(t, s)
}

func runArgs(t testing.TB, s Spec) (string, Exit) {
	t.Helper()
	if s.Root == nil {
		s.Root = openDir(t, rootfs(t))
	}
	if s.Env == nil {
		s.Env = []string{"PATH=/bin"}
	}
	var out bytes.Buffer
	p, err := Start(context.Background(), s, Stdio{Out: &out, Err: &out})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), exit
}
func itoa(n int) string { return strconv.Itoa(n) }

// long is for tests that take more than a moment: go test -short leaves them out.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}
