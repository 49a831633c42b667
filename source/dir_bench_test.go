package source

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/forge-build/forge/snapshot/filetree"
)

// bigContext makes 50,000 files once, in FORGE_BENCH_CONTEXT or a temporary directory.
func bigContext(b *testing.B) string {
	b.Helper()
	if dir := os.Getenv("FORGE_BENCH_CONTEXT"); dir != "" {
		return dir
	}
	root := b.TempDir()
	content := make([]byte, 5500)
	for i := range 1000 {
		dir := filepath.Join(root, fmt.Sprintf("pkg%02d", i/20), fmt.Sprintf("module%02d", i%20))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for k := range 50 {
			copy(content, fmt.Sprint(i, k))
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file_%03d.js", k)), content, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	return root
}

// walkAll is what describing COPY . does: all metadata, all digests.
func walkAll(b *testing.B, d *Dir) (files, unknown int) {
	b.Helper()
	ctx := context.Background()
	if err := d.Load(ctx, "."); err != nil {
		b.Fatal(err)
	}
	var missing []string
	var walk func(dir string)
	walk = func(dir string) {
		err := d.List(dir, func(e *filetree.Entry, sum *[sha256.Size]byte) error {
			name := filetree.Join(dir, e.Name)
			if e.Mode&0o170000 == 0o040000 {
				walk(name)
				return nil
			}
			files++
			if sum == nil {
				missing = append(missing, name)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	walk(".")
	if err := filetree.Hash(ctx, d, missing); err != nil {
		b.Fatal(err)
	}
	return files, len(missing)
}

// BenchmarkDirFirst is the first pass over a context: everything is read.
func BenchmarkDirFirst(b *testing.B) {
	root := bigContext(b)
	for b.Loop() {
		d, err := OpenDir(root, nil, "")
		if err != nil {
			b.Fatal(err)
		}
		walkAll(b, d)
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDirAgain is a pass over an unchanged context.
func BenchmarkDirAgain(b *testing.B) {
	root, index := bigContext(b), filepath.Join(b.TempDir(), "index")
	for i := 0; b.Loop(); i++ {
		d, err := OpenDir(root, nil, index)
		if err != nil {
			b.Fatal(err)
		}
		if files, unknown := walkAll(b, d); i > 1 && unknown > 0 {
			b.Fatalf("%d of %d files were read again", unknown, files)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStatCacheOpen is what an index costs that nobody needs.
func BenchmarkStatCacheOpen(b *testing.B) {
	root, index := bigContext(b), filepath.Join(b.TempDir(), "index")
	d, err := OpenDir(root, nil, index)
	if err != nil {
		b.Fatal(err)
	}
	walkAll(b, d)
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		x := openStatCache(index)
		if x.count() == 0 {
			b.Fatal("the index is empty")
		}
		if err := x.close(nil); err != nil {
			b.Fatal(err)
		}
	}
}
