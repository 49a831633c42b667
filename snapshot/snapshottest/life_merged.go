package snapshottest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// A container goes on with what it has written when the layers of its image are merged between two starts, and when they are not any more.
func merged(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	base := Commit(t, k, nil, func(r Root) {
		r.Dir("gone/dir")
		for i := range 200 { // more than are merged at the first start
			r.File(fmt.Sprintf("f%d", i), "1")
		}
		r.Link("f0", "linked")
		r.Dir("dir/below")
		r.File("dir/below/file", "2")
	})
	layers := []image.Layer{base, Commit(t, k, []image.Layer{base}, func(r Root) {
		r.Remove("f1")
		r.Remove("gone")
		r.Dir("gone")
		r.File("gone/new", "3")
		r.File("dir/second", "4")
	})}
	index := filepath.Join(k.Root, "snapshots", image.ChainID(layers).Encoded()+".merged")
	dir := filepath.Join(k.Root, "containers", "one")
	start := func(what string, change func(r Root)) []string {
		d, f := draft(t, k, layers, snapshot.DraftOptions{Dir: dir})
		defer func() {
			if err := errors.Join(d.Close(), k.Store.Release()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}()
		change(NewRoot(t, Path(f)))
		return ListDir(t, Path(f))
	}
	there := func(what string, want bool) {
		if _, err := os.Stat(index); (err == nil) != (want && kind == snapshot.EROFS) {
			t.Errorf("%s: index of the merged layers: %v", what, err)
		}
	}
	nothing := func(Root) {}
	prune := func() {
		err := k.Store.Release() // nothing is mounted of what goes
		if _, pruneErr := k.Store.Prune(func(digest.Digest) bool { return false }); errors.Join(err, pruneErr) != nil {
			t.Fatal(err, pruneErr)
		}
	}
	prune() // Commit has started containers, too
	want := start("first", func(r Root) {
		r.Chmod("f2", 0o600)
		r.Remove("f3")
		r.Remove("dir/below")
		r.Dir("dir/below")
		r.File("dir/below/other", "5")
		r.Write("linked", "6", 0)
	})
	there("first", false)
	Compare(t, "second", start("second", nothing), want)
	there("second", true)
	want = start("third", func(r Root) { r.Chmod("f4", 0o600); r.Remove("f5"); r.File("new", "7"); r.Link("new", "also") })
	if kind == snapshot.EROFS {
		if err := os.Truncate(index, 4096); err != nil { // as a crash may leave it
			t.Fatal(err)
		}
	}
	Compare(t, "damaged", start("damaged", nothing), want)
	there("damaged", true) // it was written anew
	prune()
	there("pruned", false)
	Compare(t, "pruned", start("pruned", nothing), want)
	there("first after the prune", false)
	kept := openKept(t, k, layers, dir)
	layer, _, err := kept.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	CompareLayers(t, k, append(layers, layer), want)
}
