package image

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// writeIndexOf stages an index of images, by platform.
func writeIndexOf(t testing.TB, l *Layout, images map[string]*Image) ocispec.Descriptor {
	t.Helper()
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for platform, img := range images {
		d := img.Descriptor
		parts := append(strings.Split(platform, "/"), "", "")
		d.Platform = &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
		x.Manifests = append(x.Manifests, d)
	}
	slices.SortFunc(x.Manifests, func(a, b ocispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	data, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return push(t, l, x.MediaType, data)
}

func TestPlatforms(t *testing.T) {
	l := openLayout(t, t.TempDir())
	images := map[string]*Image{}
	for _, p := range []string{"linux/amd64", "linux/arm64", "linux/arm/v6", "linux/arm/v7", "linux/386", "windows/amd64"} {
		images[p] = writeImage(t, l, p)
	}
	x := writeIndexOf(t, l, images)
	for _, test := range []struct {
		want     string
		platform ocispec.Platform
	}{
		{"linux/amd64", ocispec.Platform{OS: "linux", Architecture: "amd64"}},
		{"linux/amd64", ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}},
		{"linux/arm64", ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}},
		{"linux/arm/v7", ocispec.Platform{OS: "linux", Architecture: "arm"}},
		{"linux/arm/v6", ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}},
		{"has no image for linux/riscv64, only for ", ocispec.Platform{OS: "linux", Architecture: "riscv64"}},
	} {
		img, err := l.Image(t.Context(), x, &test.platform)
		if want := images[test.want]; want == nil {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v: %v, want %q", test.platform, err, test.want)
			}
		} else if err != nil || img.ID() != want.ID() {
			t.Errorf("%v: not the image for %s: %v", test.platform, test.want, err)
		}
	}
	if err := l.Tag(t.Context(), mustParse(t, "multi"), x); err != nil {
		t.Fatal(err)
	}
	os.Remove(l.BlobPath(images["linux/arm64"].Descriptor.Digest)) // was not pulled: fine
	os.Remove(l.BlobPath(images["linux/386"].Layers()[0].DiffID))  // is in pieces: not fine
	if err := l.Tag(t.Context(), mustParse(t, "multi2"), x); err == nil {
		t.Error("an index with an incomplete image got a name")
	}
	os.Remove(l.BlobPath(images["linux/386"].Descriptor.Digest))
	if err := l.Tag(t.Context(), mustParse(t, "multi2"), x); err != nil {
		t.Errorf("an index with some of its images: %v", err)
	}
	if n, err := l.Find(t.Context(), "multi2"); err != nil || n.ID == "" {
		t.Errorf("Find(multi2) = %v, %v", n, err)
	}
}

func TestManifestLimits(t *testing.T) {
	config := `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + digA + `","size":2}`
	layer := `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"` + digA + `","size":2}`
	const manifest = ocispec.MediaTypeImageManifest
	for _, test := range []struct{ name, doc, mediaType, want string }{
		{"good", `{"schemaVersion":2,"config":` + config + `,"layers":[` + layer + `]}`, manifest, ""},
		{"docker", `{"schemaVersion":2,"mediaType":"` + mediaTypeDockerManifest + `","config":{"mediaType":"` + mediaTypeDockerConfig + `","digest":"` + digA + `","size":2},"layers":[{"mediaType":"` + mediaTypeDockerLayer + `.gzip","digest":"` + digA + `","size":2}]}`, mediaTypeDockerManifest, ""},
		{"both", `{"schemaVersion":2,"config":` + config + `,"layers":[],"manifests":[]}`, manifest, "both layers and manifests"},
		{"other type", `{"schemaVersion":2,"mediaType":"` + mediaTypeDockerManifest + `","config":` + config + `}`, manifest, "and came as"},
		{"index type", `{"schemaVersion":2,"mediaType":"` + mediaTypeDockerIndex + `","config":` + config + `}`, "", "not the media type of an image manifest"},
		{"schema 1", `{"schemaVersion":1,"fsLayers":[]}`, "", "schema 1"},
		{"schema 3", `{"schemaVersion":3}`, "", "schema version 3"},
		{"no config", `{"schemaVersion":2,"layers":[]}`, manifest, "no configuration"},
		{"artifact", `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"` + digA + `","size":2}}`, manifest, "is not an image's"},
		{"layer type", `{"schemaVersion":2,"config":` + config + `,"layers":[` + strings.Replace(layer, "layer.v1.tar", "layer.v1.tar+xz", 1) + `]}`, manifest, "unknown media type"},
		{"negative size", `{"schemaVersion":2,"config":` + config + `,"layers":[` + strings.Replace(layer, ":2}", ":-2}", 1) + `]}`, manifest, "out of range"},
		{"absurd size", `{"schemaVersion":2,"config":` + config + `,"layers":[` + strings.Replace(layer, ":2}", ":9007199254740993}", 1) + `]}`, manifest, "out of range"},
		{"digest", `{"schemaVersion":2,"config":` + config + `,"layers":[` + strings.Replace(layer, digA, "sha256:../x", 1) + `]}`, manifest, "64 lower case"},
		{"many layers", `{"schemaVersion":2,"config":` + config + `,"layers":[` + layer + strings.Repeat(","+layer, 500) + `]}`, manifest, "501 layers"},
		{"large", `{"schemaVersion":2,"config":` + config + `}` + strings.Repeat(" ", MaxManifestSize), manifest, "more than the 4194304"},
		{"no JSON", `<html>`, manifest, "invalid character"},
	} {
		_, err := ParseManifest([]byte(test.doc), test.mediaType)
		if !strings.Contains(errText(err), test.want) || (err == nil) != (test.want == "") {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := ParseConfig([]byte(`{"rootfs":{"diff_ids":["`+digA+`"]}}`), ocispec.Manifest{}); err == nil || err.Error() != "names 1 layers, its manifest 0" {
		t.Errorf("count of layers: %v", err)
	}
	l := openLayout(t, t.TempDir())
	big := Describe(manifest, bytes.Repeat([]byte(" "), MaxManifestSize+1))
	if _, err := l.Image(t.Context(), big, nil); err == nil || !strings.Contains(err.Error(), "4194305 bytes are more than") {
		t.Errorf("large manifest: %v", err)
	}
	// An index that holds itself cannot be made; a deep one can.
	d := writeImage(t, l, "x").Descriptor
	for range maxIndexDepth + 1 {
		data, _ := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{d}})
		d = push(t, l, ocispec.MediaTypeImageIndex, data)
	}
	if _, err := l.Image(t.Context(), d, nil); err == nil || !strings.Contains(err.Error(), "more than 4 indexes within each other") {
		t.Errorf("deep index: %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + digA + `","size":2},"layers":[]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digA + `","size":2,"platform":{"os":"linux","architecture":"arm","variant":"v7"}}]}`))
	f.Add([]byte(`{"name":"a","id":"` + digA + `","descriptor":{"digest":"` + digA + `","size":3}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := ParseManifest(data, ""); err == nil {
			for _, d := range append(m.Layers, m.Config) {
				if checkDescriptor(d) != nil || filepath.Base(d.Digest.Encoded()) != d.Digest.Encoded() {
					t.Errorf("accepted %q", d.Digest)
				}
			}
		}
		if x, err := ParseIndex(data, ""); err == nil {
			if d, err := SelectPlatform(x, &ocispec.Platform{OS: "linux", Architecture: "arm64"}); err == nil && checkDescriptor(d) != nil {
				t.Errorf("selected %q", d.Digest)
			}
		}
		_, _ = ParseConfig(data, ocispec.Manifest{})
		if n, err := parseRecord("a", data); err == nil && (n.Reference == Reference{} || CheckDigest(n.Descriptor.Digest) != nil) {
			t.Errorf("record %q gives %v", data, n)
		}
	})
}
