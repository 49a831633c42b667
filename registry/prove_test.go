package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// TestClaimedLayer: an image that names a blob which is here beside the diffID of another image's layer does not get the files of that one.
func TestClaimedLayer(t *testing.T) {
	t.Parallel()
	src := registrytest.NewMemory()
	l := openLayout(t, t.TempDir())
	tars := [][]byte{registrytest.Tar(t, "mine", 1, 1000), registrytest.Tar(t, "secret", 2, 2000)}
	var diffIDs []digest.Digest
	var blobs []ocispec.Descriptor
	for _, raw := range tars {
		diffIDs = append(diffIDs, digest.FromBytes(raw))
		blobs = append(blobs, src.Add(ocispec.MediaTypeImageLayerGzip, registrytest.Gzip(t, raw)))
	}
	add := func(blobs []ocispec.Descriptor, diffIDs ...digest.Digest) ocispec.Descriptor {
		config := ocispec.Image{Platform: amd64, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: diffIDs}}
		return src.AddJSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: src.AddJSON(t, ocispec.MediaTypeImageConfig, config), Layers: blobs,
		})
	}
	pull := func(d ocispec.Descriptor) error {
		_, err := registry.Copy(t.Context(), l, src, d, into(l, registry.CopyOptions{}))
		return err
	}
	for i := range tars { // each in an image of its own, neither of which gets a name
		if err := pull(add(blobs[i:i+1], diffIDs[i])); err != nil {
			t.Fatal(err)
		}
	}
	for name, d := range map[string]ocispec.Descriptor{
		"the other's": add(blobs[:1], diffIDs[1]),
		"both":        add([]ocispec.Descriptor{blobs[0], blobs[0]}, diffIDs[0], diffIDs[1]),
	} {
		if err := pull(d); err == nil || !strings.Contains(err.Error(), "layer "+blobs[0].Digest.String()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	lie := image.Layer{Blob: blobs[0], DiffID: diffIDs[1]}
	away := image.Named{Reference: registrytest.Ref(t, "example.com/away:1"), Descriptor: add(blobs[:1], diffIDs[1]), Away: true}
	for _, child := range []ocispec.Descriptor{away.Descriptor, manifestOf(t, src, away.Descriptor).Config} {
		if _, err := l.Push(t.Context(), child, image.ContentOf(src, child)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.Publish(t.Context()), l.TagAll(t.Context(), away)); err != nil {
		t.Fatal(err)
	}
	if err := l.Prove(t.Context(), []image.Layer{lie}); err == nil {
		t.Error("an image whose layers are away proves what they hold")
	}
	whole := add(blobs, diffIDs...)
	if err := pull(whole); err != nil { // as after a pull that was broken off
		t.Error(err)
	}
	if _, err := registry.CopyLayers(t.Context(), l, src, []image.Layer{lie}, into(l, registry.CopyOptions{})); err == nil {
		t.Error("a cache has another's layer")
	}
}

// TestClaimedTar: of an image that was not fetched and names a tar beside the diffID of another image's layer, which is here, the tar is pushed and
// not that layer.
func TestClaimedTar(t *testing.T) {
	t.Parallel()
	src, dst, l := registrytest.NewMemory(), registrytest.NewMemory(), openLayout(t, t.TempDir())
	secret := registrytest.Tar(t, "secret", 2, 2000)
	diffID := digest.FromBytes(secret)
	blob := src.Add(ocispec.MediaTypeImageLayer, registrytest.Tar(t, "mine", 1, 1000))
	layer := image.Layer{Blob: src.Add(ocispec.MediaTypeImageLayer, secret), DiffID: diffID}
	if _, err := registry.CopyLayers(t.Context(), l, src, []image.Layer{layer}, into(l, registry.CopyOptions{})); err != nil {
		t.Fatal(err)
	}
	config := ocispec.Image{Platform: amd64, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}}
	d := src.AddJSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: src.AddJSON(t, ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{blob},
	})
	for _, again := range []bool{false, true} {
		pushed, err := registry.Copy(t.Context(), dst, src, d, registry.CopyOptions{Forms: &registry.Forms{Source: l, Recompress: again}})
		if err != nil {
			t.Fatal(err)
		}
		if got := manifestOf(t, dst, pushed).Layers[0]; got.Digest != blob.Digest {
			t.Errorf("compressed again %t: pushed %s, want the tar %s", again, got.Digest, blob.Digest)
		}
	}
}
