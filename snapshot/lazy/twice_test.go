package lazy

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
)

// TestTwice has several read the same files at once, from a registry that answers truly once. What has come may not be written again.
func TestTwice(t *testing.T) {
	t.Parallel()
	const n, size = 1500, 1000
	var in, out bytes.Buffer
	w := tar.NewWriter(&in)
	for i := range n {
		_ = w.WriteHeader(&tar.Header{Name: fmt.Sprint("f", i), Mode: 0o644, Size: size}) // to memory
		_, _ = w.Write(bytes.Repeat([]byte{byte(i), byte(i >> 8)}, size/2))
	}
	_ = w.Close()
	e := estargz.NewWriterLevel(&out, 0)
	if err := e.AppendTar(&in); err != nil {
		t.Fatal(err)
	}
	toc, err := e.Close()
	if err != nil {
		t.Fatal(err)
	}
	blob := out.Bytes()
	var mu sync.Mutex
	var lies []byte // guarded by mu: what is answered next
	fetch := func(_ context.Context, from, to int64) (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		if lies == nil {
			return io.NopCloser(bytes.NewReader(blob[from:to])), nil
		}
		b := bytes.Clone(lies[from:to])
		for i := from; i < to; i++ {
			lies[i] = ^blob[i]
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	for range 8 {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		lies = nil
		l, err := Open(t.Context(), int64(len(blob)), toc, fetch, file, func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		lies = bytes.Clone(blob)
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for k := range l.chunks {
					i := min(k/5*5+(k*(g%4+1)+g)%5, len(l.chunks)-1) // all of them, in another order than the neighbour
					if err := l.bring(i); err != nil {
						t.Errorf("what has come is fetched again: %v", err)
					}
				}
			})
		}
		all.Wait()
		if err := file.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			return
		}
	}
}
