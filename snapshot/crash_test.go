package snapshot_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/snapshottest"
)

// holds tells a test process to hold a draft in the state directory until it is killed.
const holds = "FORGE_TEST_HOLD"

// TestHold is the process that TestKill kills.
func TestHold(t *testing.T) {
	root := os.Getenv(holds)
	if root == "" {
		t.Skip("runs in a process of TestKill")
	}
	k := snapshottest.Open(t, root, snapshot.Kind(os.Getenv("FORGE_TEST_KIND")))
	layer := snapshottest.Commit(t, k, nil, func(r snapshottest.Root) { r.File("d/below", "1") })
	d, err := k.Store.Draft(t.Context(), []image.Layer{layer}, snapshot.DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := d.Mount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	snapshottest.NewRoot(t, snapshottest.Path(f)).File("d/new", "1")
	if _, err := k.Store.Mount(t.Context(), []image.Layer{layer}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("\nholding")
	time.Sleep(time.Minute)
}

// TestKill kills a process that holds a draft: nothing is left mounted, and a sweep takes what is left on the disk.
func TestKill(t *testing.T) {
	long(t)
	needRoot(t)
	for _, kind := range []snapshot.Kind{snapshot.EROFS, snapshot.Overlay, snapshot.Copy} {
		t.Run(string(kind), func(t *testing.T) {
			root := t.TempDir()
			k := snapshottest.Open(t, root, kind)
			kill := hold(t, root, kind)
			if now := snapshottest.Mounts(t, root); len(now) > 0 {
				t.Errorf("mounted while a draft is held: %q", now)
			}
			if err := k.Store.Sweep(); err != nil {
				t.Fatal(err)
			}
			drafts := filepath.Join(root, "drafts")
			if left := names(t, drafts); len(left) != 1 {
				t.Errorf("drafts beside a process that lives: %q, want its own", left)
			}
			kill()
			if now := snapshottest.Mounts(t, root); len(now) > 0 {
				t.Errorf("mounted after the process was killed: %q", now)
			}
			if left := names(t, drafts); len(left) != 1 {
				t.Errorf("drafts of a killed process: %q, want one", left)
			}
			if err := k.Store.Sweep(); err != nil {
				t.Fatal(err)
			}
			if left := names(t, drafts); len(left) != 0 {
				t.Errorf("drafts after a sweep: %q, want none", left)
			}
		})
	}
}

// TestDraftSweeps: a process that begins to lend drafts deletes those that a dead one has left, and none of one that lives.
func TestDraftSweeps(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root := t.TempDir()
	k := snapshottest.Open(t, root, snapshot.Copy)
	drafts := filepath.Join(root, "drafts")
	lives, err := flock.NewDir(drafts, "")
	if err != nil {
		t.Fatal(err)
	}
	defer lives.Close()
	for _, dir := range []string{lives.Name(), filepath.Join(drafts, "dead"), filepath.Join(drafts, "dead too")} {
		if err := os.MkdirAll(filepath.Join(dir, "1/upper/deep"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d, err := k.Store.Draft(t.Context(), nil, snapshot.DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Close(), k.Store.Close()); err != nil {
		t.Fatal(err)
	}
	if left := names(t, drafts); len(left) != 1 || left[0] != filepath.Base(lives.Name()) {
		t.Errorf("drafts: %q, want that of who lives, %q", left, filepath.Base(lives.Name()))
	}
	if _, err := os.Stat(filepath.Join(lives.Name(), "1/upper/deep")); err != nil {
		t.Error(err)
	}
}

// hold starts a process that holds a draft, and returns what kills it.
func hold(t *testing.T, root string, kind snapshot.Kind) (kill func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHold$")
	cmd.Env = append(os.Environ(), holds+"="+root, "FORGE_TEST_KIND="+string(kind))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if killed {
			return
		}
		killed = true
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
	}
	t.Cleanup(kill)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "holding" {
			return kill
		}
	}
	t.Fatalf("the process to be killed has ended: %v", lines.Err())
	return nil
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
