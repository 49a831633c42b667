package snapshot

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// What is copied out of a tar with holes has the same bytes, wherever it begins and ends; a tar that is too short is an error.
func TestCopyHoles(t *testing.T) {
	const size = 3 << 20
	path := filepath.Join(t.TempDir(), "tar")
	src, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := src.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for at := int64(700_000); at < size; at += 900_000 {
		if _, err := src.WriteAt(bytes.Repeat([]byte("data"), 30_000), at); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dst := func() *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	buf := make([]byte, 64<<10)
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		from := r.Int64N(size)
		e := filetree.Extent{At: from, Size: r.Int64N(int64(len(content))-from) + 1}
		f := dst()
		err := copyExtents(int(f.Fd()), src, []filetree.Extent{e}, buf)
		if err == nil {
			err = f.Truncate(e.Size)
		}
		got, readErr := os.ReadFile(f.Name())
		if err = errors.Join(err, readErr); err != nil || !bytes.Equal(got, content[from:from+e.Size]) {
			t.Errorf("%d bytes at %d are others (%v)", e.Size, from, err)
		}
	}
	for _, e := range []filetree.Extent{{At: 0, Size: int64(len(content)) + 1}, {At: int64(len(content)) + 1, Size: 1}, {At: 1 << 30, Size: 1 << 20}} {
		if err := copyExtents(int(dst().Fd()), src, []filetree.Extent{e}, buf); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes at %d, of %d: %v", e.Size, e.At, len(content), err)
		}
	}
}

// A layer that is put into a directory marks nothing in it for overlayfs, as nothing lies below.
func TestPlaceLayerMarksNothing(t *testing.T) {
	need(t, "root", os.Geteuid() == 0)
	s := openStore(t)
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	layer := storeTar(t, s, tarOf(t, tar.Header{Name: "a"}, dir("a/"), tar.Header{Name: "a/c", Uname: "2"}, dir("d/"), tar.Header{Name: "d/.wh..wh..opq"}))
	to := t.TempDir()
	if err := errors.Join(os.Mkdir(to+"/d", 0o755), os.WriteFile(to+"/d/own", []byte("1"), 0o644)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.PlaceLayer(t.Context(), layer, f, PlaceOptions{Owners: true}); err != nil {
		t.Fatal(err)
	}
	if got, want := opsOf(t, OpenLive(f)), "a/ a/c=2 d/ d/own=1"; got != want {
		t.Errorf("directory has %s, want %s", got, want)
	}
	for _, name := range []string{"a", "d"} {
		if _, err := unix.Getxattr(to+"/"+name, s.rights().overlayPrefix()+"opaque", nil); !errors.Is(err, unix.ENODATA) {
			t.Errorf("%s is marked as opaque (%v)", name, err)
		}
	}
}
