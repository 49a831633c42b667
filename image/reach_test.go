package image

import (
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestFalseIndex holds that an index that says of blobs what they are not is in nobody's way: it is whole, and what can be pruned is pruned.
func TestFalseIndex(t *testing.T) {
	t.Parallel()
	attestation := map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	for name, row := range map[string]func(l *Layout, img *Image) ocispec.Descriptor{
		"configuration as an index": func(_ *Layout, img *Image) ocispec.Descriptor {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: img.ID(), Size: img.Manifest.Config.Size}
		},
		"configuration of no type": func(_ *Layout, img *Image) ocispec.Descriptor {
			return ocispec.Descriptor{Digest: img.ID(), Size: img.Manifest.Config.Size}
		},
		"configuration as an attestation": func(_ *Layout, img *Image) ocispec.Descriptor {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: img.ID(), Size: img.Manifest.Config.Size, Annotations: attestation}
		},
		"another size": func(_ *Layout, img *Image) ocispec.Descriptor {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: img.ID(), Size: img.Manifest.Config.Size + 1}
		},
		"attestation without a configuration": func(l *Layout, _ *Image) ocispec.Descriptor {
			d := push(t, l, ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":{"mediaType":"`+ocispec.MediaTypeImageConfig+`","digest":"`+string(digA)+`","size":5},"layers":[]}`))
			d.Annotations = attestation
			return d
		},
		"many indexes within each other": func(l *Layout, img *Image) ocispec.Descriptor {
			d := img.Descriptor
			for range MaxIndexDepth + 3 {
				d = writeIndex(t, l, d)
			}
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := openLayout(t, t.TempDir())
			img := writeImage(t, l, "x")
			own := img.Descriptor
			own.Platform = &img.Config.Platform
			other := row(l, img)
			d := writeIndex(t, l, other, own, other)
			if err := l.Tag(t.Context(), mustParse(t, "app"), d); err != nil {
				t.Fatal(err)
			}
			mustFsck(t, l, "")
			if _, err := l.Reached(t.Context()); err != nil {
				t.Error(err)
			}
			push(t, l, ocispec.MediaTypeImageLayer, tarOf("loose", "x"))
			if err := l.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
			if p, err := prune(t, l, PruneOptions{}); err != nil || len(p.Blobs) != 1 {
				t.Errorf("%d blobs are pruned, %v; want the loose layer", len(p.Blobs), err)
			}
			if _, err := l.whole(t.Context(), d); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPruneDoesNotGuessBelow holds that of a document that is named by an index, and damaged, nobody says that it reaches nothing.
func TestPruneDoesNotGuessBelow(t *testing.T) {
	t.Parallel()
	for name, damaged := range map[string]func(img *Image) digest.Digest{
		"manifest":      func(img *Image) digest.Digest { return img.Descriptor.Digest },
		"configuration": (*Image).ID,
	} {
		l := openLayout(t, t.TempDir())
		img := writeImage(t, l, "x")
		if err := l.Tag(t.Context(), mustParse(t, "app"), writeIndex(t, l, img.Descriptor)); err != nil {
			t.Fatal(err)
		}
		count, _ := blobCount(t, l)
		path := l.BlobPath(damaged(img))
		for _, text := range []string{"{}", strings.Replace(read(t, path), "sha256", "sha257", 1)} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := prune(t, l, PruneOptions{}); err == nil || !strings.Contains(err.Error(), "is damaged") {
				t.Errorf("%s: Prune = %v, want that it is damaged", name, err)
			}
		}
		if now, _ := blobCount(t, l); now != count {
			t.Errorf("%s: %d of %d blobs are left", name, now, count)
		}
	}
}
