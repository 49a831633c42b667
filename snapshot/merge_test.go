package snapshot

import (
	"archive/tar"
	"math/rand/v2"
	"slices"
	"testing"

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
		merged, err := s.viewParts(t.Context(), []part{{image.ChainID(layers), layers}})
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
