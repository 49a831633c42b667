package snapshot

import (
	"archive/tar"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// An index of merged layers says what the layers say.
func TestMerge(t *testing.T) {
	s := openStore(t)
	var stacks [][]image.Layer
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		tree, layers := flatTree{}, []image.Layer(nil)
		for range 2 + r.IntN(5) {
			layers = append(layers, randomChanges(t, r, s, viewOf(t, s, layers...), tree))
		}
		stacks = append(stacks, layers)
	}
	below := commitOps(t, s, "d/", "d/a=1", "d/b=2", "e/", "e/hidden=3", "f=4", "l->d/a")
	above := commitOps(t, s, "-d/a", "e!", "e/new=5", "f/", "f/in=6")
	linked := storeTar(t, s, tarOf(t,
		tar.Header{Name: "x/deep/first", Uname: "7"}, // x and deep are implied
		tar.Header{Typeflag: tar.TypeLink, Name: "x/second", Linkname: "x/deep/first"},
		tar.Header{Typeflag: tar.TypeChar, Name: "device", Devmajor: 1, Devminor: 3},
		tar.Header{Typeflag: tar.TypeReg, Name: "f", Uname: "8", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}},
	))
	stacks = append(stacks, []image.Layer{below, above}, []image.Layer{below, above, linked}, []image.Layer{above, below, above}, []image.Layer{linked, linked})
	for _, data := range sparseTars(t) {
		stacks = append(stacks, []image.Layer{below, storeTar(t, s, data)}, []image.Layer{storeTar(t, s, data), above})
	}
	for n, layers := range stacks {
		view := viewOf(t, s, layers...)
		if err := s.merge(t.Context(), view, layers); err != nil {
			t.Fatalf("stack %d: %v", n, err)
		}
		merged, err := s.viewParts(t.Context(), []part{mergedPart(layers)})
		if err != nil {
			t.Fatalf("stack %d: %v", n, err)
		}
		got, want := listTree(t, merged), listTree(t, view)
		if !slices.Equal(got, want) {
			t.Errorf("stack %d", n)
			diffLines(t, got, want)
		}
		if err := merged.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The chain ID of layers is the digest of a text, which a layer can consist of: that is not taken for those layers.
func TestMergedIsNoLayer(t *testing.T) {
	s := openStore(t)
	layers := []image.Layer{commitOps(t, s, "a=1"), commitOps(t, s, "b=2")}
	if err := s.merge(t.Context(), viewOf(t, s, layers...), layers); err != nil {
		t.Fatal(err)
	}
	text := string(layers[0].DiffID + " " + layers[1].DiffID)
	f, err := s.layout.Staging().Create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	chain := image.ChainID(layers)
	if chain != digest.FromString(text) {
		t.Fatalf("the chain ID is %s", chain)
	}
	if err := f.Commit(s.layout.BlobPath(chain)); err != nil {
		t.Fatal(err)
	}
	layer := image.Layer{Blob: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: chain, Size: int64(len(text))}, DiffID: chain}
	if v, err := s.View(t.Context(), []image.Layer{layer}); err == nil {
		t.Errorf("a layer of %q has the files %q", text, opsOf(t, v))
	}
}

// Who is called off while layers are merged holds nothing of them.
func TestMergeCalledOff(t *testing.T) {
	s := openStore(t)
	s.kind = EROFS // nothing gets as far as to be mounted
	layers := []image.Layer{commitOps(t, s, "a=1"), commitOps(t, s, "b=2")}
	held, err := s.View(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := s.viewStarted(done, layers); v != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v, %v", v, err)
	}
	if err := held.Close(); err != nil || len(s.open.m) > 0 {
		t.Errorf("%d layers are held, %v", len(s.open.m), err)
	}
}
