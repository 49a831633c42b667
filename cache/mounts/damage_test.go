package mounts

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// damage changes a byte near the end of a blob of a layout.
func damage(t *testing.T, layout string, d ocispec.Descriptor) {
	t.Helper()
	path := filepath.Join(layout, "blobs/sha256", d.Digest.Encoded())
	raw, err := os.ReadFile(path)
	if err == nil {
		raw[len(raw)-1000] ^= 1
		err = os.WriteFile(path, raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// kept is what is kept of the mount.
func kept(t *testing.T, p *Shelf, m Mount) *Version {
	t.Helper()
	v, err := p.Find(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSecondPlace holds that of a place whose pack is damaged nothing stays in the directory that another place fills.
func TestSecondPlace(t *testing.T) {
	first, _, layout := newShelf(t)
	dir := t.TempDir()
	write(t, dir, "a/file", noise(1, 6<<20))
	write(t, dir, "b/file", noise(2, 6<<20))
	write(t, dir, "of-the-first/file", noise(3, 6<<20))
	save(t, first, cargo, dir)
	v := kept(t, first, cargo)
	damage(t, layout, v.packs[len(v.packs)-1])

	second, _, _ := newShelf(t)
	if err := os.RemoveAll(filepath.Join(dir, "of-the-first")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "b/file", noise(4, 1<<20))
	save(t, second, cargo, dir)

	into := t.TempDir()
	if _, err := first.Restore(t.Context(), v, open(t, into)); !errors.Is(err, image.ErrMismatch) {
		t.Fatalf("a damaged pack: %v", err)
	}
	if _, err := os.Stat(filepath.Join(into, "a/file")); err != nil {
		t.Fatalf("the first place has left nothing, so this test shows nothing: %v", err)
	}
	if _, err := second.Restore(t.Context(), kept(t, second, cargo), open(t, into)); err != nil {
		t.Error(err)
	}
	checkSame(t, dir, into)
}
