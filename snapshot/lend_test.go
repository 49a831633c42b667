package snapshot

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/fusefile/fusefiletest"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// A lentFile is a layer of one file, f, which remembers how much of it was asked for at a time.
type lentFile struct {
	*strings.Reader
	mu    sync.Mutex
	asked []int
}

func (l *lentFile) Size() int64 { return 512 }

func (l *lentFile) ReadAt(p []byte, off int64) (int, error) {
	l.mu.Lock()
	l.asked = append(l.asked, len(p))
	l.mu.Unlock()
	return l.Reader.ReadAt(p, off)
}

func (l *lentFile) Headers(entry func(*layertar.Header) error) error {
	return entry(&layertar.Header{Path: "f", Kind: layertar.Regular, Entry: filetree.Entry{Mode: 0o640, UID: 3, Size: 7}})
}

// TestLend uses a layer that is not in the store. What this process reads of it does not come by way of the file that it serves to mounts: if it
// were killed while it waits for itself, it could not end.
func TestLend(t *testing.T) {
	eachKind(t, func(t *testing.T, s *Store) {
		from := &lentFile{Reader: strings.NewReader("content" + strings.Repeat("\x00", 505))}
		layer := image.Layer{DiffID: digest.FromString("lent"), Blob: ocispec.Descriptor{Digest: digest.FromString("blob"), Size: 1}}
		err := s.Lend(layer, from)
		if kind, _ := s.Kind(); kind != EROFS {
			for _, err := range []error{err, s.CanLend()} {
				if !errors.Is(err, ErrNotLent) {
					t.Errorf("%v, want %v", err, ErrNotLent)
				}
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CanLend(); err != nil {
			t.Error(err)
		}
		layers := []image.Layer{commitOps(t, s, "a=1"), layer}
		view, err := s.View(t.Context(), layers)
		if err != nil {
			t.Fatal(err)
		}
		f, err := view.Open("f")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != "content" {
			t.Errorf("the view has %q, %v", got, err)
		}
		from.mu.Lock() // the kernel asks for more below
		for _, n := range from.asked {
			if n > 7 {
				t.Errorf("the view read pages, by way of the kernel: %d", from.asked)
			}
		}
		from.mu.Unlock()
		if err := errors.Join(f.Close(), view.Close()); err != nil {
			t.Error(err)
		}
		root, err := s.Mount(t.Context(), layers)
		if err != nil {
			t.Fatal(err)
		}
		name := procPath(int(root.Fd())) + "/f"
		got, err := os.ReadFile(name)
		if err != nil || string(got) != "content" {
			t.Errorf("the mount has %q, %v", got, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil || st.Uid != 3 || st.Mode&0o777 != 0o640 {
			t.Errorf("%+v, %v", st, err)
		}
		if err := errors.Join(root.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		for _, suffix := range []string{".erofs", ""} {
			if _, err := os.Lstat(s.snapshotPath(layer.DiffID, suffix)); err == nil {
				t.Error("something of the layer is kept")
			}
		}
	})
}

// TestGiveBack: a layer is lent once, and what is given back is used no more and leaves nothing open.
func TestGiveBack(t *testing.T) {
	eachKind(t, func(t *testing.T, s *Store) {
		if kind, _ := s.Kind(); kind != EROFS {
			return // nothing is lent there: see TestLend
		}
		layer := image.Layer{DiffID: digest.FromString("lent"), Blob: ocispec.Descriptor{Digest: digest.FromString("blob"), Size: 1}}
		before := fusefiletest.Served(t)
		for range 2 {
			for _, want := range []bool{true, false} { // once, and not again
				from := &lentFile{Reader: strings.NewReader("content" + strings.Repeat("\x00", 505))}
				if err := s.Lend(layer, from); (err == nil) != want {
					t.Fatalf("lent %v, %v", want, err)
				}
			}
			view, err := s.View(t.Context(), []image.Layer{layer})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(view.Close(), s.GiveBack([]image.Layer{commitOps(t, s, "a=1"), layer})); err != nil {
				t.Error(err)
			}
			if _, err := s.View(t.Context(), []image.Layer{layer}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a layer that was given back: %v", err)
			}
		}
		if n := fusefiletest.AwaitServed(t, before); n != before {
			t.Errorf("%d connections are open, before there were %d", n, before)
		}
	})
}
