package registry_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// TestWrongBlobToArchive holds that a copy to an archive ends when a mirror gives a wrong layer, and says so.
func TestWrongBlobToArchive(t *testing.T) {
	home := registrytest.Home(t)
	mirror, origin := registrytest.New(t), registrytest.New(t)
	put(t, origin.Ref(t, "hub/app:1"), 1, 300_000, 1000)
	src, d := put(t, mirror.Ref(t, "cache/app:1"), 1, 300_000, 1000)
	write(t, filepath.Join(home, "registries.conf"), "[[registry]]\nprefix = \"example.com/team\"\nlocation = \""+origin.Host()+"/hub\"\n"+
		"[[registry.mirror]]\nlocation = \""+mirror.Host()+"/cache\"\n")
	mirror.Fault(fault{Method: "GET", Path: manifestOf(t, src, d).Layers[0].Digest.String(), Do: flipped(1000)})
	ref := registrytest.Ref(t, "example.com/team/app:1")
	for want, copyTo := range map[string]func(*registry.Client, string) error{
		"copy again": func(c *registry.Client, path string) error {
			_, err := c.Transfer(t.Context(), "oci-archive:"+path, ref.String(), amd64, registry.CopyOptions{})
			return err
		},
		"has to be begun again": func(c *registry.Client, _ string) error {
			repo, err := c.Connect(ref)
			if err != nil {
				return err
			}
			how := registry.CopyOptions{Concurrency: 1, Reject: repo.Reject}
			_, err = registry.Copy(t.Context(), image.NewArchiveWriter(io.Discard), repo, d, how)
			return err
		},
	} {
		done := make(chan error, 1)
		go func() {
			done <- copyTo(registry.NewClient(registry.Options{Limits: quick}), filepath.Join(t.TempDir(), "x.tar"))
		}()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "content has digest") {
				t.Errorf("%v, want that the content has another digest, %q", err, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("the copy that should say %q does not end", want)
		}
	}
}

// A refuser is a store that calls all content of layers wrong.
type refuser struct {
	*registrytest.Memory
	push func(context.Context, image.Content) // what it does before
}

func (r refuser) Push(ctx context.Context, _ ocispec.Descriptor, content image.Content) (ocispec.Descriptor, error) {
	r.push(ctx, content)
	return ocispec.Descriptor{}, image.ErrMismatch
}

// TestWrongBlobEnds holds that a blob is not sent again and again to who calls it wrong without a look at it, nor when
// nobody waits for it any more, whatever the source hopes for.
func TestWrongBlobEnds(t *testing.T) {
	t.Parallel()
	src := registrytest.NewMemory()
	d := src.AddImage(t, 1, amd64, false, 1000)
	for name, wantTries := range map[string]int{"opens nothing": 1, "is cancelled": 3} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tries := 0
		dst := refuser{Memory: registrytest.NewMemory()}
		dst.push = func(ctx context.Context, content image.Content) {
			tries++
			if name == "opens nothing" {
				return
			}
			if r, err := content.Open(ctx, 0); err == nil {
				_ = r.Close()
			}
			if tries == wantTries {
				cancel()
			}
		}
		asked := 0
		how := registry.CopyOptions{Concurrency: 1, Reject: func(digest.Digest) bool { asked++; return asked < 100 }}
		_, err := registry.Copy(ctx, dst, src, d, how)
		if !errors.Is(err, image.ErrMismatch) || asked >= wantTries {
			t.Errorf("%s: %v after the source was asked %d times for another place, want fewer than %d", name, err, asked, wantTries)
		}
	}
}

// pullGuarded pulls an image by way of a partial store.
func pullGuarded(t *testing.T, root string, src image.Fetcher, d ocispec.Descriptor, guard registry.Guard) error {
	t.Helper()
	l := openLayout(t, root)
	_, err := registry.Copy(t.Context(), l, src, d, adopting(l, registry.CopyOptions{Partial: registry.OpenPartial(filepath.Join(root, "partial"), guard)}))
	return err
}

// TestDownloadIsGuarded holds that a download ends when the file system is about to be full, and leaves nothing there.
func TestDownloadIsGuarded(t *testing.T) {
	t.Parallel()
	src := registrytest.NewMemory()
	d := src.AddImage(t, 1, amd64, true, 1<<20)
	root := t.TempDir()
	full := func(context.Context, io.Writer) io.Writer { return fullWriter{} }
	if err := pullGuarded(t, root, src, d, full); !errors.Is(err, image.ErrFull) {
		t.Errorf("%v, want %v", err, image.ErrFull)
	}
	if left, err := os.ReadDir(filepath.Join(root, "partial")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, image.ErrFull }
