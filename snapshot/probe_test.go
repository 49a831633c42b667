package snapshot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forge-build/forge/image"
)

func openTestStore(t *testing.T, root string, kind Kind) *Store {
	t.Helper()
	staging, err := image.OpenStaging(root)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := image.OpenLayout(root, staging)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(root, layout, kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestOpenKind(t *testing.T) {
	root := t.TempDir()
	if _, err := Open(root, nil, "zfs"); err == nil || !strings.Contains(err.Error(), `"zfs"`) {
		t.Errorf("open with kind zfs: %v", err)
	}
	for _, kind := range []Kind{EROFS, Overlay, Copy} {
		if got, why := openTestStore(t, root, kind).Kind(); got != kind || why != "asked for" {
			t.Errorf("kind %s, because %s; want %s, asked for", got, why, kind)
		}
	}
}

// TestProbe makes sure that a probe is made once for all processes, and again when what it depends on has changed.
func TestProbe(t *testing.T) {
	root := t.TempDir()
	first := openTestStore(t, root, "")
	kind, why := first.Kind()
	if why == "" {
		t.Error("no reason")
	}
	if os.Geteuid() != 0 && kind != Copy {
		t.Errorf("kind %s without any rights", kind)
	}
	file := filepath.Join(root, "snapshots", "probe")
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, _, _ := strings.Cut(string(written), "\n")
	for _, test := range []struct {
		name, content string
		kind          Kind
		why           string
	}{
		{"remembered", key + "\ncopy\nbecause\n", Copy, "because"},
		{"other kernel", "1 other\ncopy\nbecause\n", kind, why},
		{"unknown kind", key + "\nzfs\nbecause\n", kind, why},
		{"cut off", key + "\ncopy", kind, why},
		{"empty", "", kind, why},
	} {
		if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, gotWhy := openTestStore(t, root, "").Kind(); got != test.kind || gotWhy != test.why {
			t.Errorf("%s: kind %s, because %s; want %s, because %s", test.name, got, gotWhy, test.kind, test.why)
		}
	}
}

// TestProbeEROFS holds the probe to what the machine of a test run that must have EROFS can do.
func TestProbeEROFS(t *testing.T) {
	need(t, "root", os.Geteuid() == 0)
	s := openTestStore(t, t.TempDir(), "")
	if err := s.probeEROFS(t.TempDir()); err != nil {
		need(t, "erofs", false)
	}
	if kind, why := s.Kind(); kind != EROFS {
		t.Errorf("kind %s, because %s; want %s", kind, why, EROFS)
	}
}

func TestIDMap(t *testing.T) {
	m := idMap{users: []idRange{{0, 1}, {1, 65535}}, groups: []idRange{{0, 1}}}
	for _, test := range []struct {
		uid, gid         uint32
		wantUID, wantGID int
	}{
		{0, 0, 0, 0}, {33, 33, 33, 0}, {65535, 1, 65535, 0}, {65536, 0, 0, 0}, {1<<32 - 2, 1<<32 - 2, 0, 0},
	} {
		if uid, gid := m.owner(&Entry{UID: test.uid, GID: test.gid}); uid != test.wantUID || gid != test.wantGID {
			t.Errorf("owner %d:%d is kept as %d:%d, want %d:%d", test.uid, test.gid, uid, gid, test.wantUID, test.wantGID)
		}
	}
	e := Entry{UID: 0, GID: 0}
	m.restore(&e, &Entry{UID: 33, GID: 44})
	if e.UID != 0 || e.GID != 44 {
		t.Errorf("restored to %d:%d, want 0:44, as only the group cannot be expressed", e.UID, e.GID)
	}
	if all := (rights{ids: idMap{}}); all.overlayPrefix() != "trusted.overlay." {
		t.Errorf("prefix %s", all.overlayPrefix())
	}
}

func TestRemoveTree(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "stays"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, strings.Repeat("d/", 300)), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"tree/link": outside, "link": tree} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(tree, "d/d"), 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "tree", "tree", "missing/too"} {
		if err := removeTree(filepath.Join(dir, name)); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
		if _, err := os.Lstat(tree); name == "link" && err != nil {
			t.Errorf("the target of a link that was removed: %v", err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
	if _, err := os.Lstat(filepath.Join(outside, "stays")); err != nil {
		t.Errorf("the target of a link in the tree: %v", err)
	}
}
