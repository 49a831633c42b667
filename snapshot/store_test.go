package snapshot_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/snapshottest"
)

// inside tells a test that it runs in a user namespace made for it, with so many IDs.
const inside = "FORGE_TEST_IDS"

// TestKinds runs the suite with every kind.
func TestKinds(t *testing.T) {
	long(t)
	ids, rights := os.Getenv(inside), snapshottest.Rights{Root: true, IDs: true}
	kinds := []snapshot.Kind{snapshot.EROFS, snapshot.Overlay, snapshot.Copy}
	if ids != "" {
		rights = snapshottest.Rights{IDs: ids != "1"}
		kinds = kinds[1:]
	} else {
		needRoot(t)
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) { snapshottest.TestStore(t, kind, rights) })
	}
}

// TestUserNamespace runs the suite without rights on the machine.
func TestUserNamespace(t *testing.T) {
	long(t)
	needRoot(t)
	for name, ids := range map[string]int{"range": 65536, "single": 1} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestKinds$") // the directory it is in may be closed to others
			cmd.Env = append(os.Environ(), "TMPDIR="+scratch(t, 100_000), inside+"=65536")
			if ids == 1 {
				cmd.Env = append(cmd.Env, inside+"=1")
			}
			maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100_000, Size: ids}}
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
				UidMappings: maps, GidMappings: maps, GidMappingsEnableSetgroups: ids > 1,
				Credential: &syscall.Credential{NoSetGroups: true},
			}
			out, err := cmd.CombinedOutput()
			snapshottest.Need(t, "userns", !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ENOSPC))
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// scratch makes a directory that belongs to a user, for whom the way there is open.
func scratch(t *testing.T, uid int) string {
	t.Helper()
	base := t.TempDir()
	for dir := base; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(base, "of-user")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	return dir
}

// long is for tests that take more than a moment: go test -short leaves them out.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}
