package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/layertar"
)

// BenchmarkCommitSmallFiles writes 50,000 files of 10 kB each, from the page cache, as a layer.
func BenchmarkCommitSmallFiles(b *testing.B) {
	const n, size = 50000, 10000
	dir := b.TempDir()
	data := bytes.Repeat([]byte("0123456789"), size/10)
	for i := range n {
		if i%500 == 0 {
			if err := os.Mkdir(filepath.Join(dir, fmt.Sprint(i/500)), 0o700); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d/%d", i/500, i)), data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	s := openStore(b)
	b.SetBytes(n * size)
	k := int64(0)
	for b.Loop() {
		c := s.NewChanges(nil)
		k++
		for i := range n {
			if i%500 == 0 {
				if err := c.Put(fmt.Sprint(i/500), mode(unix.S_IFDIR, 0o755), Content{}); err != nil {
					b.Fatal(err)
				}
			}
			name := fmt.Sprintf("%d/%d", i/500, i)
			e := mode(unix.S_IFREG, 0o644)
			e.Size, e.ModTime = size, e.ModTime.Add(time.Duration(k))
			path := filepath.Join(dir, name)
			open := func() (io.ReadCloser, error) { return os.Open(path) }
			if err := c.Put(name, e, Content{Open: open, Group: "g"}); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := s.Commit(context.Background(), c, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommitLargeFile writes 1 GiB as a layer.
func BenchmarkCommitLargeFile(b *testing.B) {
	const size = 1 << 30
	path := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	s := openStore(b)
	b.SetBytes(size)
	k := int64(0)
	for b.Loop() {
		c := s.NewChanges(nil)
		e := mode(unix.S_IFREG, 0o644)
		k++
		e.Size, e.ModTime = size, e.ModTime.Add(time.Duration(k))
		if err := c.Put("file", e, Content{Open: func() (io.ReadCloser, error) { return os.Open(path) }}); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Commit(context.Background(), c, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// indexOf builds an index of n files of a real tree's shape.
func indexOf(b *testing.B, n int) *erofs.Builder {
	x := erofs.NewBuilder(nil)
	off := int64(0)
	for i := range n {
		e := mode(unix.S_IFREG, 0o644)
		e.Size = int64(i%40) * 1000
		path := fmt.Sprintf("usr/share/dir-%d/sub-%d/file-name-%d.txt", i/400, i/40, i)
		if err := x.Add(path, &e, off); err != nil {
			b.Fatal(err)
		}
		off += layertar.Padded(e.Size) + layertar.Block
	}
	return x
}

func BenchmarkIndex(b *testing.B) {
	var out bytes.Buffer
	for b.Loop() {
		out.Reset()
		if err := indexOf(b, 16700).Encode(&out, erofs.Tar{Size: 1 << 30}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(out.Len()), "B/index")
}

func BenchmarkLookup(b *testing.B) {
	var out bytes.Buffer
	if err := indexOf(b, 16700).Encode(&out, erofs.Tar{Size: 1 << 30}); err != nil {
		b.Fatal(err)
	}
	x, err := erofs.New(out.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	v, err := viewOfMetadata(nil, x, x, x, x, x, x, x, x, x, x)
	if err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		i = (i + 797) % 16700
		if _, err := v.Lstat(fmt.Sprintf("usr/share/dir-%d/sub-%d/file-name-%d.txt", i/400, i/40, i)); err != nil {
			b.Fatal(err)
		}
	}
}
