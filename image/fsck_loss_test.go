package image

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// indexOfThree names an index of three images, by one name that a repository has.
func indexOfThree(t *testing.T, l *Layout) (x ocispec.Descriptor, images []*Image) {
	t.Helper()
	by := map[string]*Image{"linux/amd64": writeImage(t, l, "a"), "linux/arm64": writeImage(t, l, "b"), "linux/riscv64": writeImage(t, l, "c")}
	x = writeIndexOf(t, l, by)
	if err := l.TagAll(t.Context(), Named{Reference: mustParse(t, "app"), Descriptor: x, Remote: digA}); err != nil {
		t.Fatal(err)
	}
	return x, []*Image{by["linux/amd64"], by["linux/arm64"], by["linux/riscv64"]}
}

func damageManifests(t *testing.T, l *Layout, images ...*Image) {
	t.Helper()
	for _, img := range images {
		if err := os.WriteFile(l.BlobPath(img.Descriptor.Digest), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRepairLosses: an image that has lost several platforms is asked for once, and what is lost for good is told, each once.
func TestRepairLosses(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	x, images := indexOfThree(t, l)
	if err := l.TagAll(t.Context(), Named{Reference: mustParse(t, "alias"), Descriptor: x}); err != nil {
		t.Fatal(err)
	}
	damageManifests(t, l, images[:2]...)
	problems, err := l.Fsck(t.Context(), FsckOptions{})
	if err != nil || len(problems) != 2 {
		t.Fatal(problems, err)
	}
	var asked []string
	dropped, err := l.Repair(t.Context(), problems, func(_ context.Context, n Named) error {
		asked = append(asked, n.Reference.Familiar())
		return nil
	})
	if err != nil || !slices.Equal(asked, []string{"app:latest"}) || len(dropped) != 2 {
		t.Errorf("%v after asking for %q: dropped %v", err, asked, dropped)
	}
	for _, name := range []string{"app", "alias", images[2].ID().Encoded()[:12]} { // an image is found by the ID that it has now
		if n, err := l.Find(t.Context(), name); err != nil || n.ID != images[2].ID() {
			t.Errorf("Find(%s) = %v, %v", name, n.ID, err)
		}
	}
	mustFsck(t, l, "")
}

// TestRepairAsPushed: what a name stands for again, in the form that its repository has, is not lost.
func TestRepairAsPushed(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	_, images := indexOfThree(t, l)
	other := writeIndexOf(t, l, map[string]*Image{"linux/amd64": writeImage(t, l, "A"), "linux/arm64": images[1]})
	damageManifests(t, l, images[0])
	problems, err := l.Fsck(t.Context(), FsckOptions{})
	if err != nil || len(problems) != 1 {
		t.Fatal(problems, err)
	}
	dropped, err := l.Repair(t.Context(), problems, func(ctx context.Context, n Named) error {
		return l.TagAll(ctx, Named{Reference: n.Reference, Descriptor: other, Remote: digest.Digest(digA)})
	})
	if err != nil || len(dropped) != 0 {
		t.Errorf("dropped %v, %v", dropped, err)
	}
}
