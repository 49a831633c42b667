package runtime

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
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
	busybox, err := os.ReadFile("/bin/busybox")
	need(t, "busybox", err == nil, "no /bin/busybox")
	for _, d := range []string{"bin", "proc", "sys", "dev", "tmp", "etc", "root", "mnt"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(list)) {
		if name != "busybox" {
			_ = os.Symlink("busybox", filepath.Join(dir, "bin", name))
		}
	}
	return dir
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
