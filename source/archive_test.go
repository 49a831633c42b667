package source

import (
	"bytes"
	"context"
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
		c := snapshot.NewChanges(nil)
		must(t, c.Put("out", filetree.Entry{Mode: syscall.S_IFREG | 0o644}, snapshot.Content{}))
		must(t, c.Put("t", filetree.Entry{Mode: syscall.S_IFDIR | 0o755}, snapshot.Content{}))
		a := &Archive{r: bytes.NewReader(b), size: int64(len(b))}
		err := a.Unpack(context.Background(), Unpacking{Changes: c, Root: "t", Group: "x"})
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
