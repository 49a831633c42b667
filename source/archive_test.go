package source

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source/sourcetest"
)

// FuzzArchive unpacks anything onto a tree that must stay as it is outside of the destination.
func FuzzArchive(f *testing.F) {
	f.Add(sourcetest.Tar(f, sourcetest.Dir("d", 0o755), sourcetest.File("d/f", "1"), sourcetest.Link("l", "/d"), sourcetest.Hard("h", "d/f"), sourcetest.File("l/g", "2")))
	f.Add(sourcetest.Tar(f, sourcetest.File("../../f", "1"), sourcetest.Link("l", "../.."), sourcetest.Hard("h", "../f")))
	store, _ := testStore(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := store.NewChanges(nil)
		must(t, c.Put("out", filetree.Entry{Mode: syscall.S_IFREG | 0o644}, snapshot.Content{}))
		must(t, c.Put("t", filetree.Entry{Mode: syscall.S_IFDIR | 0o755}, snapshot.Content{}))
		a := &Archive{r: bytes.NewReader(b), size: int64(len(b))}
		err := a.Unpack(context.Background(), Unpacking{Changes: c, Root: "t"})
		layer, err2 := store.Commit(context.Background(), c, nil)
		if err != nil || err2 != nil {
			return
		}
		view, err := store.View(context.Background(), []image.Layer{layer})
		must(t, err)
		defer view.Close() //nolint:errcheck
		entries, err := filetree.ReadDir(view, ".")
		must(t, err)
		if len(entries) != 2 || entries[0].Name != "out" || entries[0].Mode != syscall.S_IFREG|0o644 || entries[1].Name != "t" {
			t.Errorf("something outside of the destination changed: %v", entries)
		}
	})
}

// TestNamelessEntry: what an archive says of its own root is BuildKit's to decide. A name that comes to nothing is no entry;
// the absolute root is the destination.
func TestNamelessEntry(t *testing.T) {
	for _, test := range []struct {
		name string
		in   tar.Header
		want string // of the destination
	}{
		{"no name", sourcetest.File("", "1"), "755"},
		{"dot", sourcetest.Dir("./", 0o700), "755"},
		{"dot as a file", sourcetest.File(".", "1"), "755"},
		{"comes to nothing", sourcetest.Dir("a/../", 0o700), "755"},
		{"root", sourcetest.Dir("/", 0o700), "700"},
		{"root as a file", sourcetest.Link("/", "x"), "the root can only be a directory"},
	} {
		b := sourcetest.Tar(t, test.in, sourcetest.File("f", "1"))
		store, _ := testStore(t)
		c := store.NewChanges(nil)
		must(t, c.Put("t", filetree.Entry{Mode: syscall.S_IFDIR | 0o755}, snapshot.Content{}))
		err := (&Archive{r: bytes.NewReader(b), size: int64(len(b))}).Unpack(t.Context(), Unpacking{Changes: c, Root: "t"})
		e, _ := c.Lookup("t")
		got := fmt.Sprintf("%o", e.Mode&0o777)
		if err != nil {
			got = err.Error()
		} else if _, err := c.Lookup("t/f"); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if !strings.HasSuffix(got, test.want) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestDeepNames unpacks names of 2040 directories, beside each other and through links.
func TestDeepNames(t *testing.T) {
	deep, half := strings.Repeat("a/", 2040), strings.Repeat("a/", 1000)
	headers := []tar.Header{sourcetest.File(deep+"f", "1"), sourcetest.Link("l", "/"+half), sourcetest.Link("dangling", half+"none")}
	for i := range 20 {
		headers = append(headers,
			sourcetest.File(fmt.Sprint(deep, "f", i), "2"), sourcetest.File(fmt.Sprint("x", i), "3"), sourcetest.File(fmt.Sprint("l/d", i, "/f"), "4"),
			sourcetest.File(fmt.Sprint(half, i, "/", half, "f"), "5"), sourcetest.Hard(fmt.Sprint("h", i), deep+"f"))
	}
	unpack := func(headers []tar.Header) (*snapshot.Changes, error) {
		store, _ := testStore(t)
		c := store.NewChanges(nil)
		b := sourcetest.Tar(t, headers...)
		return c, (&Archive{r: bytes.NewReader(b), size: int64(len(b))}).Unpack(t.Context(), Unpacking{Changes: c, Root: "."})
	}
	c, err := unpack(headers)
	must(t, err)
	for name, want := range map[string]uint32{
		deep + "f19": syscall.S_IFREG, "x19": syscall.S_IFREG, half + "d19": syscall.S_IFDIR, half + "d19/f": syscall.S_IFREG,
		half + "19/" + half + "f": syscall.S_IFREG, "h19": syscall.S_IFREG, half + "none": 0, "dangling": syscall.S_IFLNK,
	} {
		if e, _ := c.Lookup(name); e.Mode&syscall.S_IFMT != want {
			t.Errorf("%.20s… (%d bytes) is of type %o, want %o", name, len(name), e.Mode, want)
		}
	}
	for name, want := range map[string]error{"dangling/f": syscall.ENOENT, "dangling/" + half + "f": syscall.ENOENT, deep + "f/" + "g": syscall.ENOTDIR} {
		if _, err := unpack(append(headers[:3:3], sourcetest.File(name, ""))); !errors.Is(err, want) {
			t.Errorf("%.20s… (%d bytes): %.100v, want %v", name, len(name), err, want)
		}
	}
}

// TestVastSparseFile holds that what is after a sparse file is found without reading that, and that one which no layer can hold is refused.
func TestVastSparseFile(t *testing.T) {
	h := sourcetest.File("vast", "")
	h.Format = tar.FormatGNU
	b := sourcetest.Tar(t, h, sourcetest.File("z", "after"))
	b[156] = tar.TypeGNUSparse
	b[483], b[487] = 0x80, 0x40 // 1<<62 bytes, in base 256
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))

	a := &Archive{r: bytes.NewReader(b), size: int64(len(b))}
	var got string
	must(t, a.each(t.Context(), func(h *tar.Header, at int64) error {
		got += fmt.Sprintf("%s %d at %d; ", h.Name, h.Size, at)
		return nil
	}))
	if want := "vast 4611686018427387904 at 0; z 5 at 512; "; got != want {
		t.Errorf("entries %s, want %s", got, want)
	}
	store, _ := testStore(t)
	if err := a.Unpack(t.Context(), Unpacking{Changes: store.NewChanges(nil), Root: "."}); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("unpacked: %v, want %v", err, syscall.EFBIG)
	}
	a.size = 600
	if err := a.each(t.Context(), func(*tar.Header, int64) error { return nil }); err == nil {
		t.Error("a cut archive was read")
	}
}

// TestFile holds the tree of one file to the suite of all trees.
func TestFile(t *testing.T) {
	e := filetree.Entry{Name: "f", Mode: 0o640, Size: 4, ModTime: sourcetest.Time}
	sourcetest.TestTree(t, NewFile(e, func() (filetree.File, error) {
		return struct {
			*strings.Reader
			io.Closer
		}{strings.NewReader("text"), io.NopCloser(nil)}, nil
	}), "f =text 640")
}
