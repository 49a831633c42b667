package snapshot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
)

// TestSpare: drafts that follow each other have one copy, which shows what a new one would, whatever was done to it and was not taken into
// a layer.
func TestSpare(t *testing.T) {
	need(t, "root", os.Getuid() == 0)
	s := openStore(t)
	layers := []image.Layer{writeLayer(t, s, everyKind())}
	epoch := time.Unix(1_500_000_000, 0)
	inode := uint64(0)
	for i, change := range []func(root string) error{
		func(string) error { return nil },
		func(root string) error { return os.WriteFile(root+"/old", []byte("rewritten"), 0o600) },
		func(root string) error { return os.Link(root+"/big", root+"/big2") },
		func(root string) error { return os.WriteFile(root+"/second", []byte("after link"), 0o640) },
		func(root string) error { return unix.Mknod(root+"/sock", unix.S_IFSOCK|0o600, 0) },
		func(root string) error { return unix.Setxattr(root+"/bigger", "trusted.none", []byte("x"), 0) },
		func(root string) error { return os.RemoveAll(root + "/dir") },
		func(root string) error { // a time that no layer keeps
			return os.Chtimes(root, time.Time{}, time.Unix(1, 0))
		},
	} {
		d, err := s.Draft(t.Context(), layers, DraftOptions{Plain: true})
		if err != nil {
			t.Fatal(err)
		}
		shows(t, i, s, d, layers)
		root := d.upper.Name()
		var st unix.Stat_t
		if err := unix.Stat(root+"/biggest", &st); err != nil {
			t.Fatal(err)
		}
		if i > 0 && st.Ino != inode {
			t.Errorf("draft %d: a file that nobody has changed was copied again", i)
		}
		inode = st.Ino
		if err := change(root); err != nil {
			t.Fatal(err)
		}
		layer, err := d.Commit(t.Context(), &epoch)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if !hasNothing(layer) {
			layers = append(layers, layer)
		}
		if i == 3 { // a COPY in between: a file of the same size and time, and other content
			e := mode(unix.S_IFREG, 0o644)
			e.ModTime = time.Unix(1700000000, 0)
			top := mode(unix.S_IFDIR, 0o711)
			top.UID = 7
			layers = append(layers, writeLayer(t, s, []testFile{{path: ".", Entry: top}, {path: "bigger", Entry: e, content: strings.Repeat("z", 2<<20+1)}}))
		}
	}
	// Another base takes no copy of this one, and what failed leaves none.
	d, err := s.Draft(t.Context(), layers[:1], DraftOptions{Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	shows(t, -1, s, d, layers[:1])
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.spares.kept); n != 1 {
		t.Errorf("%d copies wait, want that of the longest chain", n)
	}
}

// shows makes sure that a draft shows what its layers sum up to.
func shows(t *testing.T, i int, s *Store, d *Draft, layers []image.Layer) {
	t.Helper()
	diffs, err := Compare(t.Context(), viewOf(t, s, layers...), OpenLive(d.root))
	if err != nil {
		t.Fatal(err)
	}
	for _, diff := range diffs {
		// Names of one file are files of their own in a copy.
		if !slices.Equal(diff.What, []string{"links"}) {
			t.Errorf("draft %d: %s", i, diff)
		}
	}
	for _, gone := range []string{"sock"} {
		if _, err := os.Lstat(filepath.Join(d.upper.Name(), gone)); err == nil {
			t.Errorf("draft %d has %s, which is in no layer", i, gone)
		}
	}
	if n, err := unix.Getxattr(filepath.Join(d.upper.Name(), "bigger"), "trusted.none", nil); err == nil && n > 0 {
		t.Errorf("draft %d has an attribute that is in no layer", i)
	}
}
