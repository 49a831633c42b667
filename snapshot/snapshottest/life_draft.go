package snapshottest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

func keptDraft(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	base := Commit(t, k, nil, func(r Root) { r.File("a", "1"); r.File("b", "1") })
	layers := []image.Layer{base}
	dir := filepath.Join(k.Root, "containers", "one")
	d, f := draft(t, k, layers, snapshot.DraftOptions{Dir: dir})
	r := NewRoot(t, Path(f))
	r.Chmod(".", 0o750)
	r.Remove("a")
	r.File("c", "1")
	want := ListDir(t, Path(f))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, f = draft(t, k, layers, snapshot.DraftOptions{Dir: dir})
	defer d.Close()
	Compare(t, "kept draft", ListDir(t, Path(f)), want)
	layer, err := d.Commit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	CompareLayers(t, k, append(layers, layer), want)
	Compare(t, "draft after commit", ListDir(t, Path(f)), want)
}

func draftInMemory(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	base := Commit(t, k, nil, func(r Root) { r.File("a", "1"); r.File("b", "1") })
	layers := []image.Layer{base}
	d, f := draft(t, k, layers, snapshot.DraftOptions{Memory: 1 << 20})
	defer d.Close()
	r := NewRoot(t, Path(f))
	r.Remove("a")
	r.File("d/c", strings.Repeat("1", 100_000))
	if err := os.WriteFile(r.Path("big"), make([]byte, 2<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("2 MiB into memory of 1: %v", err)
	}
	r.Remove("big")
	want := ListDir(t, Path(f))
	layer, err := d.Commit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	CompareLayers(t, k, append(layers, layer), want)
	if _, err := k.Store.Draft(t.Context(), layers, snapshot.DraftOptions{Memory: 1, Dir: t.TempDir()}); err == nil {
		t.Error("a draft both kept and in memory")
	}
}

// besideEachOther writes drafts on the same layers at the same time.
func besideEachOther(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	base := Commit(t, k, nil, func(r Root) { r.File("d/a", "1") })
	var g errgroup.Group
	for i := range 16 {
		g.Go(func() error {
			d, err := k.Store.Draft(t.Context(), []image.Layer{base}, snapshot.DraftOptions{})
			if err != nil {
				return err
			}
			defer d.Close()
			f, err := d.Mount(t.Context())
			if err != nil {
				return err
			}
			if err := os.WriteFile(Path(f)+"/d/mine", []byte(fmt.Sprint(i)), 0o644); err != nil {
				return err
			}
			layer, err := d.Commit(t.Context(), nil)
			if err != nil {
				return err
			}
			view, err := k.Store.View(t.Context(), []image.Layer{base, layer})
			if err != nil {
				return err
			}
			defer view.Close()
			if list := ListTree(t, view); len(list) != 4 {
				return fmt.Errorf("draft %d shows %q", i, list)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// bigHole makes a file that is much larger than what it takes, as lastlog is for a user with a large ID.
func bigHole(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	layer := Commit(t, k, nil, func(r Root) { r.Dir("var/log"); r.Write("var/log/lastlog", "end", 128<<20) })
	tar, err := k.Layout.OpenTar(t.Context(), layer)
	if err != nil {
		t.Fatal(err)
	}
	defer tar.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(tar.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size < 128<<20 || st.Blocks*512 > 4<<20 {
		t.Errorf("the layer of %d bytes takes %d on the disk", st.Size, st.Blocks*512)
	}
	if kind == snapshot.EROFS { // which makes no copy
		return
	}
	d, f := draft(t, k, []image.Layer{layer}, snapshot.DraftOptions{Dir: filepath.Join(k.Root, "containers", "one")})
	defer d.Close()
	lastlog := filepath.Join(Path(f), "var/log/lastlog")
	if err := unix.Stat(lastlog, &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != 128<<20+3 || st.Blocks*512 > 4<<20 {
		t.Errorf("the file of %d bytes takes %d on the disk", st.Size, st.Blocks*512)
	}
	b, err := os.ReadFile(lastlog)
	if want := append(make([]byte, 128<<20), "end"...); err != nil || !bytes.Equal(b, want) {
		t.Errorf("the file has another content (%v)", err)
	}
}
