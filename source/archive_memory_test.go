package source

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/source/sourcetest"
)

// A manyEntries is a tar of as many entries, in directories of 1000: files, hard links to them, and symbolic links. It is made
// where it is read.
type manyEntries int64

func (n manyEntries) size() int64 { return int64(n+2) * 512 }

// entry is the i'th block.
func (n manyEntries) entry(i int64) []byte {
	name := func(i int64) string { return fmt.Sprintf("some/directory-%d/file-name-%d.txt", i/1000, i) }
	h := sourcetest.File(name(i), "")
	switch {
	case i >= int64(n):
		return make([]byte, 512)
	case i%4 == 1:
		h = sourcetest.Hard(name(i), name(i-1))
	case i%4 == 2:
		h = sourcetest.Link(name(i), name(i))
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (n manyEntries) ReadAt(p []byte, off int64) (read int, err error) {
	for read < len(p) {
		if off == n.size() {
			return read, io.EOF
		}
		k := copy(p[read:], n.entry(off / 512)[off%512:])
		read, off = read+k, off+int64(k)
	}
	return read, nil
}

// peakMemory is how far the memory of this process that no file holds grows while f runs, in bytes.
func peakMemory(t *testing.T, f func()) int64 {
	t.Helper()
	anonymous := func() (kib int64) {
		status, err := os.ReadFile("/proc/self/status")
		_, rest, _ := strings.Cut(string(status), "RssAnon:")
		if _, serr := fmt.Sscan(rest, &kib); err != nil || serr != nil {
			t.Errorf("memory of the process: %v, %v", err, serr)
		}
		return kib << 10
	}
	debug.FreeOSMemory()
	before, peak := anonymous(), int64(0)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			peak = max(peak, anonymous())
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	f()
	close(end)
	<-ended
	return peak - before
}

// What an archive of many entries takes of memory does not grow with them, whether it is unpacked by ADD or is a layer from outside.
func TestManyEntries(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const entries = manyEntries(400_000)
	const limit = 48 << 20
	store, layout := testStore(t)
	unpacked := peakMemory(t, func() {
		changes := store.NewChanges(nil)
		a := &Archive{r: entries, size: entries.size()}
		must(t, a.Unpack(t.Context(), Unpacking{Changes: changes, Root: "."}))
		if left, err := filepath.Glob(layout.Root() + "/ingest/*/*"); err != nil || len(left) > 0 {
			t.Errorf("kill -9 would leave %q, %v", left, err)
		}
		_, err := store.Commit(t.Context(), changes, nil)
		must(t, err)
		must(t, changes.Close())
	})
	indexed := peakMemory(t, func() {
		x := store.Indexer()
		_, err := io.Copy(x, io.NewSectionReader(entries, 0, entries.size()))
		must(t, err)
		must(t, x.Finish(digest.FromString("many entries")))
		must(t, x.Close())
	})
	t.Logf("unpacked in %d MiB, indexed in %d MiB", unpacked>>20, indexed>>20)
	if unpacked > limit || indexed > limit {
		t.Errorf("%d entries take %d MiB to unpack, %d to index; want at most %d", entries, unpacked>>20, indexed>>20, limit>>20)
	}
}
