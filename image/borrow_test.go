package image

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestBorrow takes a layer's tar from a file, by another name of it, and gives tars away: of one that is borrowed a copy, of its own a name.
func TestBorrow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLayout(t, filepath.Join(dir, "store"))
	lent := filepath.Join(dir, "lent")
	tar := tarOf("file", "text")
	if err := os.WriteFile(lent, tar, 0o600); err != nil {
		t.Fatal(err)
	}
	layer := func(tar []byte) Layer {
		return Layer{describe(ocispec.MediaTypeImageLayer, tar), digest.FromBytes(tar)}
	}
	borrowed, other := layer(tar), layer(tar)
	other.Blob.Size++
	if err := l.Borrow(t.Context(), lent, other); err == nil {
		t.Error("a file of another size is taken")
	}
	for range 2 { // the second time it is there
		if err := l.Borrow(t.Context(), lent, borrowed); err != nil {
			t.Fatal(err)
		}
	}
	own := tarOf("file", "another")
	push(t, l, ocispec.MediaTypeImageLayer, own)
	for _, test := range []struct {
		layer  Layer
		want   []byte
		shared bool // with the store
	}{{borrowed, tar, false}, {layer(own), own, true}} {
		to := filepath.Join(dir, "given")
		if err := l.GiveTar(t.Context(), test.layer, to); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(to)
		if err != nil || string(got) != string(test.want) {
			t.Errorf("given are %d bytes, %v, want %d", len(got), err, len(test.want))
		}
		f, err := l.OpenTar(t.Context(), test.layer)
		if err != nil {
			t.Fatal(err)
		}
		stored, err1 := f.Stat()
		given, err2 := os.Stat(to)
		f.Close()
		if err1 != nil || err2 != nil || os.SameFile(stored, given) != test.shared {
			t.Errorf("the tar of %s and the store's are one file: %v, %v, want %v", test.layer.DiffID, err1, err2, test.shared)
		}
	}
}
