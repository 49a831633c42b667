package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/flock"
)

// TestLease: what a process has written or asked for stays beside a prune by another one, which says whose it is; when the
// process ends, it goes.
func TestLease(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	other := openLayout(t, root)
	old := push(t, other, ocispec.MediaTypeImageLayer, tarOf("old", "layer"))
	taken := writeImage(t, other, "taken")
	tag(t, other, "taken", taken)
	if err := errors.Join(other.Publish(t.Context()), other.staging.Close()); err != nil {
		t.Fatal(err)
	}

	busy := openLayout(t, root)
	busy.staging.SetCommand("build")
	made := push(t, busy, ocispec.MediaTypeImageLayer, tarOf("made", "layer"))
	if err := busy.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, err := busy.Exists(t.Context(), old); !ok || err != nil {
		t.Fatalf("Exists = %v, %v", ok, err)
	}
	if _, err := busy.Take(t.Context(), "taken"); err != nil {
		t.Fatal(err)
	}

	l := openLayout(t, root)
	if err := l.Remove(t.Context(), taken.Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	p, err := prune(t, l, PruneOptions{Nameless: true})
	if err != nil || len(p.Blobs) != 0 {
		t.Errorf("beside a build: %+v, %v", p, err)
	}
	if len(p.Left) != 1 || p.Left[0].Blobs != 5 || p.Left[0].Bytes == 0 || !strings.HasPrefix(p.Left[0].Owner.String(), "forge build (process ") {
		t.Errorf("beside a build: left %+v", p.Left)
	}
	for _, d := range []ocispec.Descriptor{old, made, taken.Descriptor, taken.Manifest.Config, taken.Manifest.Layers[0]} {
		if ok, err := l.Has(d); !ok || err != nil {
			t.Errorf("%s: %v, %v", d.Digest, ok, err)
		}
	}
	if err := busy.staging.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err = prune(t, l, PruneOptions{Nameless: true}); err != nil || len(p.Blobs) != 5 || len(p.Left) != 0 {
		t.Errorf("after the build: %+v, %v", p, err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "leases/*")); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
}

// TestLeaseOfTheDead: a lease that nobody holds keeps nothing, whatever is in it, and is removed.
func TestLeaseOfTheDead(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	d := push(t, l, ocispec.MediaTypeImageLayer, tarOf("x", "layer"))
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "torn": `{"pid":1,"since":"2026-01-01T00:00:00Z"}` + "\n" + `{"digest":"` + string(d.Digest) + `"}` + "\n{", "noise": "\x00\n\n",
	} {
		if err := os.WriteFile(l.path("leases", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := prune(t, l, PruneOptions{}); err != nil || len(p.Blobs) != 1 {
		t.Errorf("Prune = %+v, %v", p, err)
	}
	if left, _ := filepath.Glob(l.path("leases", "*")); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
}

// TestLeaseWithoutSpace: who cannot write a lease holds the store's lock.
func TestLeaseWithoutSpace(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	l.staging.lease.all = true
	lock, err := flock.TryLock(l.path("lock"), flock.Shared)
	if err != nil {
		t.Fatal(err)
	}
	l.staging.lease.store = lock
	if err := l.Hold(t.Context(), ocispec.Descriptor{Digest: digest.FromString("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := flock.TryLock(l.path("lock"), flock.Exclusive); !errors.Is(err, flock.ErrHeld) {
		t.Errorf("a prune could begin: %v", err)
	}
}

// TestLeaseWaits: while a prune decides, nothing is added, and who waits hears that he is to stop.
func TestLeaseWaits(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	lock, err := flock.TryLock(l.path("lock"), flock.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	d := ocispec.Descriptor{Digest: digest.FromString("x")}
	if err := l.Hold(ctx, d); !errors.Is(err, why) {
		t.Errorf("Hold = %v, want %v", err, why)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Hold(t.Context(), d); err != nil {
		t.Errorf("Hold after the prune: %v", err)
	}
}

// TestLeaseCrowd: writers that look whether a blob is here, and use it if it is, beside prunes. What a writer was told is
// here is here.
func TestLeaseCrowd(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	openLayout(t, root)
	content := tarOf("x", "layer")
	var writers, prunes sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		prunes.Go(func() {
			l := openLayout(t, root)
			for {
				select {
				case <-done:
					return
				default:
				}
				lock, err := flock.Lock(t.Context(), l.path("lock"), flock.Exclusive)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = l.Prune(t.Context(), PruneOptions{Nameless: true})
				if err = errors.Join(err, lock.Close(), l.EmptyTrash()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 4 {
		writers.Go(func() {
			for range 25 {
				l := openLayout(t, root)
				d := push(t, l, ocispec.MediaTypeImageLayer, content)
				if err := l.Publish(t.Context()); err != nil {
					t.Error(err)
				}
				f, err := l.OpenBlob(d.Digest)
				if errors.Is(err, fs.ErrNotExist) {
					t.Error("a blob that was here went")
				} else {
					f.Close()
				}
				if err := l.staging.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	prunes.Wait()
}

// BenchmarkLease measures what a command pays: a lease with one image, and one more blob.
func BenchmarkLease(b *testing.B) {
	root := b.TempDir()
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			s, err := OpenStaging(root)
			if err == nil {
				err = errors.Join(s.lease.hold(b.Context(), []ocispec.Descriptor{d}), s.Close())
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("more", func(b *testing.B) {
		s, err := OpenStaging(root)
		if err != nil {
			b.Fatal(err)
		}
		for n := range b.N {
			d.Digest = digest.FromString(string(rune(n)))
			if err := s.lease.hold(b.Context(), []ocispec.Descriptor{d}); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	})
}
