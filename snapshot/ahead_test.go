package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
)

// Layers that were mounted ahead are those of the draft, at the same time too, and nothing stays open.
func TestAhead(t *testing.T) { eachKind(t, testAhead) }

// eachKind calls test with an empty store of each kind.
func eachKind(t *testing.T, test func(t *testing.T, s *Store)) {
	for _, kind := range []Kind{EROFS, Overlay, Copy} {
		t.Run(string(kind), func(t *testing.T) {
			need(t, "root", kind == Copy || os.Geteuid() == 0)
			s := openStore(t)
			s.kind = kind
			need(t, "erofs", kind != EROFS || s.probeEROFS(t.TempDir()) == nil)
			test(t, s)
		})
	}
}

// Layers that are given back are mounted again for who needs them.
func TestRelease(t *testing.T) { eachKind(t, testRelease) }

func testRelease(t *testing.T, s *Store) {
	layers := []image.Layer{commitOps(t, s, "a=1"), commitOps(t, s, "b=2")}
	for range 2 {
		d, err := s.Draft(t.Context(), layers, DraftOptions{})
		if err != nil {
			t.Fatal(err)
		}
		root, err := d.Mount(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(procPath(int(root.Fd())) + "/b"); err != nil {
			t.Error(err)
		}
		if err := errors.Join(d.Close(), s.Release()); err != nil || len(s.layers.m) != 0 {
			t.Errorf("%d layers are mounted, %v", len(s.layers.m), err)
		}
	}
}

func testAhead(t *testing.T, s *Store) {
	layers := []image.Layer{commitOps(t, s, "a=1"), commitOps(t, s, "b=2")}
	ctx := context.Background()
	ahead := make(chan error)
	go func() { ahead <- errors.Join(s.Ahead(ctx, layers), s.Ahead(ctx, nil)) }()
	d, err := s.Draft(ctx, layers, DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ahead; err != nil {
		t.Fatal(err)
	}
	root, err := d.Mount(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := os.Stat(procPath(int(root.Fd())) + "/" + name); err != nil {
			t.Error(err)
		}
	}
	kind, _ := s.Kind()
	if want := len(layers); kind != Copy && len(s.layers.m) != want {
		t.Errorf("%d layers are mounted, want %d", len(s.layers.m), want)
	}
	if err := d.Close(); err != nil || len(s.open.m) != 0 {
		t.Errorf("%d layers are open in the end, %v", len(s.open.m), err)
	}
	missing := layers[0]
	missing.DiffID = "sha256:" + missing.DiffID[7:8] + missing.DiffID[7:70]
	missing.Blob.Digest = missing.DiffID
	if err := s.Ahead(ctx, []image.Layer{missing}); kind != Copy && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer that is not here: %v", err)
	}
}

// Many layers, which are mounted and unmounted several at a time, are stacked in their order, and one that is not here fails.
func TestManyLayers(t *testing.T) { eachKind(t, testManyLayers) }

func testManyLayers(t *testing.T, s *Store) {
	var layers []image.Layer
	for i := range 3 * few {
		layers = append(layers, commitOps(t, s, fmt.Sprintf("f%d=%d", i, i), fmt.Sprintf("top=%d", i)))
	}
	layers = append(layers, layers[1]) // which is the topmost then
	ctx := t.Context()
	d, err := s.Draft(ctx, layers, DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := d.Mount(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * few {
		if b, err := os.ReadFile(fmt.Sprintf("%s/f%d", procPath(int(root.Fd())), i)); err != nil || string(b) != strconv.Itoa(i) {
			t.Errorf("file of layer %d: %q, %v", i, b, err)
		}
	}
	if b, err := os.ReadFile(procPath(int(root.Fd())) + "/top"); err != nil || string(b) != "1" {
		t.Errorf("a file of all layers: %q, %v; want that of the topmost", b, err)
	}
	files := map[int]unix.Stat_t{}
	for _, m := range s.layers.m {
		var st unix.Stat_t
		if err := unix.Fstat(m.fd, &st); err != nil {
			t.Fatal(err)
		}
		files[m.fd] = st
	}
	if want := 3 * few; s.kind != Copy && len(files) != want {
		t.Errorf("%d layers are mounted, want %d", len(files), want)
	}
	if err := errors.Join(d.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	for fd, was := range files {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Dev == was.Dev && st.Ino == was.Ino {
			t.Errorf("descriptor %d of a layer is open in the end", fd)
		}
	}
}
