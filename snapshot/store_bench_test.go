package snapshot_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/snapshottest"
)

// layersOf makes n layers of a few files each.
func layersOf(b testing.TB, k *snapshottest.Kit, n int) []image.Layer {
	var layers []image.Layer
	for i := range n {
		layers = append(layers, commit(b, k, layers, func(root string) {
			for j := range 10 {
				write(b, fmt.Sprintf("%s/%d-%d", root, i, j), "content")
			}
		}))
	}
	return layers
}

// commit makes a layer of what change does to the root of a draft.
func commit(b testing.TB, k *snapshottest.Kit, layers []image.Layer, change func(root string)) image.Layer {
	b.Helper()
	d, err := k.Store.Draft(b.Context(), layers, snapshot.DraftOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			b.Error(err)
		}
	}()
	f, err := d.Mount(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	change(snapshottest.Path(f))
	layer, err := d.Commit(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	return layer
}

func write(b testing.TB, path, content string) {
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEmptyStep is what a step that writes nothing costs: draft, mount, commit, close.
func BenchmarkEmptyStep(b *testing.B) {
	needRoot(b)
	k := snapshottest.Open(b, b.TempDir(), snapshot.EROFS)
	layers := layersOf(b, k, 3)
	for b.Loop() {
		commit(b, k, layers, func(string) {})
	}
}

// BenchmarkDraft is the draft of that step alone.
func BenchmarkDraft(b *testing.B) {
	needRoot(b)
	k := snapshottest.Open(b, b.TempDir(), snapshot.EROFS)
	layers := layersOf(b, k, 3)
	for b.Loop() {
		d, err := k.Store.Draft(b.Context(), layers, snapshot.DraftOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkMount is a read-only mount of three layers that are not mounted yet.
func BenchmarkMount(b *testing.B) {
	needRoot(b)
	root := b.TempDir()
	k := snapshottest.Open(b, root, snapshot.EROFS)
	layers := layersOf(b, k, 3)
	if err := k.Layout.Publish(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		store, err := snapshot.Open(root, k.Layout, "")
		if err != nil {
			b.Fatal(err)
		}
		f, err := store.Mount(b.Context(), layers)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommitBig is the commit of one file of 1 GiB.
func BenchmarkCommitBig(b *testing.B) {
	needRoot(b)
	k := snapshottest.Open(b, b.TempDir(), snapshot.EROFS)
	const size = 1 << 30
	chunk := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{1})
	benchmarkCommit(b, k, size, func(root string) {
		f, err := os.Create(root + "/big")
		if err != nil {
			b.Fatal(err)
		}
		for range size / len(chunk) {
			random.Read(chunk)
			if _, err := f.Write(chunk); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkCommitMany is the commit of 50,000 files of 5.5 KiB in 500 directories.
func BenchmarkCommitMany(b *testing.B) {
	needRoot(b)
	k := snapshottest.Open(b, b.TempDir(), snapshot.EROFS)
	content := make([]byte, 5520)
	n := byte(0)
	benchmarkCommit(b, k, 50_000*int64(len(content)), func(root string) {
		n++
		for i := range 500 {
			dir := fmt.Sprintf("%s/%d", root, i)
			if err := os.Mkdir(dir, 0o755); err != nil {
				b.Fatal(err)
			}
			for j := range 100 {
				content[0], content[1], content[2] = byte(i), byte(j), n
				if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, j), content, 0o644); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

func benchmarkCommit(b *testing.B, k *snapshottest.Kit, size int64, fill func(root string)) {
	b.SetBytes(size)
	for b.Loop() {
		b.StopTimer()
		d, err := k.Store.Draft(b.Context(), nil, snapshot.DraftOptions{})
		if err != nil {
			b.Fatal(err)
		}
		f, err := d.Mount(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		fill(snapshottest.Path(f))
		b.StartTimer()
		if _, err := d.Commit(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	snapshottest.Need(t, "root", os.Geteuid() == 0)
}
