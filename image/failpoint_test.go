//go:build failpoint

package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestFailPoints stops naming an image at each point, and looks at what a later process finds.
func TestFailPoints(t *testing.T) {
	for _, point := range []string{
		"image.create.before-rename", "image.create.after-rename",
		"image.publish.before-sync", "image.publish.before-rename", "image.publish.amid-rename", "image.publish.after-rename",
		"image.tag.before-rename", "image.tag.after-rename", "image.index.before-rename", "image.index.after-rename",
		"image.untag.before-remove", "image.untag.after-remove",
	} {
		root := t.TempDir()
		st := openStaging(t, root)
		run := func() error {
			l, err := OpenLayout(root, st)
			if err != nil {
				return err
			}
			img := writeImage(t, l, "content")
			if err := l.Tag(t.Context(), mustParse(t, "app"), img.Descriptor); err != nil {
				return err
			}
			_, _, err = l.Drop(t.Context(), img.Descriptor.Digest, mustParse(t, "app"))
			return err
		}
		t.Setenv("FORGE_FAILPOINT", point+":error")
		if err := run(); err == nil || !strings.Contains(err.Error(), "fail point "+point) {
			t.Errorf("%s: %v", point, err)
		}
		t.Setenv("FORGE_FAILPOINT", "")
		st.Close() // as the sweep would

		l := openLayout(t, root)
		mustListWhole(t, point, l)
		if got, want := indexListing(t, l), listing(t, l); got != want {
			t.Errorf("%s: index.json = %s, want %s", point, got, want)
		}
		st = l.Staging()
		if err := run(); err != nil {
			t.Errorf("%s: next run: %v", point, err)
		}
		if _, err := l.Resolve(t.Context(), mustParse(t, "app")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: next run left the name: %v", point, err)
		}
	}
}

// TestFailPointsOfPrune stops a prune at each point: what is listed stays whole, and the next prune does the rest.
func TestFailPointsOfPrune(t *testing.T) {
	for _, point := range []string{"image.prune.before-remove", "image.prune.before-empty", "image.untag.before-remove", "image.untag.after-remove"} {
		l := openLayout(t, t.TempDir())
		tag(t, l, "stays", writeImage(t, l, "stays"))
		tag(t, l, "", writeImage(t, l, "goes"))
		t.Setenv("FORGE_FAILPOINT", point+":error")
		if _, err := prune(t, l, PruneOptions{Nameless: true}); err == nil {
			t.Errorf("%s: Prune succeeded", point)
		}
		t.Setenv("FORGE_FAILPOINT", "")
		mustListWhole(t, point, l)
		if _, err := prune(t, l, PruneOptions{Nameless: true}); err != nil {
			t.Errorf("%s: next Prune: %v", point, err)
		}
		if blobs, _ := filepath.Glob(l.blobs() + "/*"); len(blobs) != 3 {
			t.Errorf("%s: %d blobs are left", point, len(blobs))
		}
		mustFsck(t, l, "")
	}
}

func mustListWhole(t *testing.T, point string, l *Layout) {
	t.Helper()
	all, err := l.List(t.Context())
	if err != nil {
		t.Errorf("%s: List: %v", point, err)
	}
	for _, n := range all {
		if _, err := l.whole(t.Context(), n.Descriptor); err != nil {
			t.Errorf("%s: listed and not whole: %v", point, err)
		}
	}
}

// TestFailPointsOfLoad stops a load, and the compression of what it brings, and does both again.
func TestFailPointsOfLoad(t *testing.T) {
	source := openLayout(t, t.TempDir())
	img := writeImage(t, source, "x")
	tag(t, source, "app", img)
	archive := save(t, source, SaveOptions{}, "app")
	for _, point := range []string{"image.load.before-name", "image.publish.before-sync", "image.publish.after-rename", "image.tag.before-rename", "image.remember.before-rename"} {
		l := openLayout(t, t.TempDir())
		run := func() error {
			if _, err := l.Load(t.Context(), bytes.NewReader(archive), LoadOptions{}); err != nil {
				return err
			}
			_, err := l.compress(t.Context(), img.Layers()[0], Compression{})
			return err
		}
		t.Setenv("FORGE_FAILPOINT", point+":error")
		if err := run(); err == nil || !strings.Contains(err.Error(), "fail point "+point) {
			t.Errorf("%s: %v", point, err)
		}
		t.Setenv("FORGE_FAILPOINT", "")
		mustListWhole(t, point, l)
		if err := run(); err != nil {
			t.Errorf("%s: next Load: %v", point, err)
		}
		mustFsck(t, l, "")
	}
}

// TestPublishKeepsOrder stops a publish after its first file: a layer's tar is at its place before the blob that holds it, since who
// finds the blob does not fetch it again.
func TestPublishKeepsOrder(t *testing.T) {
	for i := range 8 {
		root := t.TempDir()
		l := openLayout(t, root)
		tar := []byte(strings.Repeat("tar "+strconv.Itoa(i), 256))
		var blob bytes.Buffer
		z := gzip.NewWriter(&blob)
		if _, err := z.Write(tar); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		layer := Layer{Blob: describe(ocispec.MediaTypeImageLayerGzip, blob.Bytes()), DiffID: digest.FromBytes(tar)}
		if err := l.PushLayer(t.Context(), layer, Incoming{Reader: &blob}, nil); err != nil {
			t.Fatal(err)
		}
		t.Setenv("FORGE_FAILPOINT", "image.publish.amid-rename:error")
		if err := l.Publish(t.Context()); err == nil {
			t.Error("it was published")
		}
		t.Setenv("FORGE_FAILPOINT", "")
		l = openLayout(t, root)
		hasTar, tarErr := l.Has(ocispec.Descriptor{Digest: layer.DiffID})
		hasBlob, blobErr := l.Has(layer.Blob)
		if !hasTar || hasBlob || tarErr != nil || blobErr != nil {
			t.Errorf("tar %t, blob %t, %v, %v, want the tar alone", hasTar, hasBlob, tarErr, blobErr)
		}
	}
}
