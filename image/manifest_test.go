package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/platforms"
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
	t.Parallel()
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
		{"index " + x.Digest.String() + ": has no image for linux/riscv64, only for ", ocispec.Platform{OS: "linux", Architecture: "riscv64"}},
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
	for p, want := range map[string]string{"linux/arm64": "linux/arm64", "linux/arm": "linux/arm/v7", "linux/arm64/v8": "linux/arm64", "linux/arm/v5": ""} {
		img, err := l.ImageFor(t.Context(), x, platforms.MustParse(p))
		if foreign, ok := errors.AsType[*PlatformError](err); want == "" && (!ok || len(foreign.Have) != len(images)) || want != "" && (err != nil || img.ID() != images[want].ID()) {
			t.Errorf("the image for %s alone: %v", p, err)
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
	if img, err := l.ImageFor(t.Context(), x, platforms.MustParse("linux/arm64")); err == nil {
		t.Errorf("the image for linux/arm64, which is not here, is that for %s", img.Descriptor.Platform.Architecture)
	}
	os.Remove(l.BlobPath(images["linux/386"].Descriptor.Digest))
	if err := l.Tag(t.Context(), mustParse(t, "multi2"), x); err != nil {
		t.Errorf("an index with some of its images: %v", err)
	}
	if n, err := l.Find(t.Context(), "multi2"); err != nil || n.ID == "" {
		t.Errorf("Find(multi2) = %v, %v", n, err)
	}
}

// TestImageForOfOne: who asks for a platform gets no image for another, also where an index names one image alone and does not say what that is for.
func TestImageForOfOne(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	img := writeImage(t, l, "x") // for linux/amd64
	for _, d := range []ocispec.Descriptor{img.Descriptor, writeIndex(t, l, img.Descriptor)} {
		if got, err := l.ImageFor(t.Context(), d, platforms.MustParse("linux/amd64")); err != nil || got.ID() != img.ID() {
			t.Errorf("%s for linux/amd64: %v", d.MediaType, err)
		}
		for _, p := range []string{"linux/arm64", "linux/386", "linux/amd64/v3"} {
			if _, err := l.ImageFor(t.Context(), d, platforms.MustParse(p)); err == nil || err.Error() != "has no image for "+p+", only for linux/amd64" {
				t.Errorf("%s for %s: %v", d.MediaType, p, err)
			}
		}
	}
}

// TestNoPlatform holds that who asks for a platform that an index has not is told which index it is, and what that has, in a line that is as long as one
// can read.
func TestNoPlatform(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	rows := []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: digA, Size: 2, Platform: &ocispec.Platform{OS: "linux", Architecture: "a\nforge: done\x1b[2J"}}}
	for i := range 500 {
		p := &ocispec.Platform{OS: "linux", Architecture: fmt.Sprint("x", i/2, strings.Repeat("y", i/2))}
		rows = append(rows, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digA, Size: 2, Platform: p})
	}
	x := writeIndex(t, l, rows[:41]...)
	_, err := l.Image(t.Context(), x, &ocispec.Platform{OS: "linux", Architecture: "riscv64"})
	want := fmt.Sprintf(`index %s: has no image for linux/riscv64, only for "linux/a\nforge: done\x1b[2J", linux/x0, linux/x1y, `, x.Digest)
	if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "more") {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = SelectPlatform(ocispec.Index{Manifests: rows}, &ocispec.Platform{OS: "linux", Architecture: "riscv64"})
	if err == nil || len(err.Error()) > 10_000 || !strings.HasSuffix(err.Error(), " and 221 more") {
		t.Errorf("got an error of %d bytes: %.200v", len(err.Error()), err)
	}
}

func TestParseDocument(t *testing.T) {
	t.Parallel()
	const (
		config = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + digA + `","size":2}`
		layer  = `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"` + digA + `","size":2}`
		child  = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digA + `","size":2}`
		// What the kinds of documents begin with.
		image = `{"schemaVersion":2,"config":` + config + `,"layers":[`
		list  = `{"schemaVersion":2,"manifests":[`

		manifest, index = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	)
	for _, test := range []struct{ name, doc, mediaType, want string }{
		{"manifest", image + layer + `]}`, manifest, manifest},
		{"manifest, type not known", image + layer + `]}`, "", manifest},
		{"manifest without layers", `{"schemaVersion":2,"config":` + config + `}`, manifest, manifest},
		{"manifest, layers null", `{"schemaVersion":2,"config":` + config + `,"layers":null}`, manifest, manifest},
		{"docker's manifest", `{"schemaVersion":2,"mediaType":"` + mediaTypeDockerManifest + `","config":{"mediaType":"` + mediaTypeDockerConfig + `","digest":"` + digA + `","size":2},"layers":[{"mediaType":"` + mediaTypeDockerLayer + `.gzip","digest":"` + digA + `","size":2}]}`, "", mediaTypeDockerManifest},
		{"index", list + child + `]}`, index, index},
		{"index, type not known", list + child + `]}`, "", index},
		{"index, manifests null", `{"schemaVersion":2,"manifests":null}`, "", index},
		{"docker's list", `{"schemaVersion":2,"mediaType":"` + mediaTypeDockerIndex + `","manifests":[]}`, "", mediaTypeDockerIndex},
		{"artifact", `{"schemaVersion":2,"artifactType":"a/b","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` + digA + `","size":2}}`, manifest, manifest},

		{"both kinds", `{"schemaVersion":2,"config":` + config + `,"layers":[],"manifests":[]}`, manifest, "has both layers and manifests"},
		{"both kinds as an index", list + `],"layers":[]}`, index, "has both layers and manifests"},
		{"another type", `{"schemaVersion":2,"mediaType":"` + mediaTypeDockerManifest + `","config":` + config + `}`, manifest, `says that it is "` + mediaTypeDockerManifest + `" and came as "` + manifest + `"`},
		{"unknown type", `{"schemaVersion":2,"mediaType":"a/b","config":` + config + `}`, "", `"a/b" is not the media type of a manifest or an index`},
		{"served as unknown type", image + `]}`, "a/b", `"a/b" is not the media type of a manifest or an index`},
		{"manifest as an index", image + `]}`, index, "has no manifests"},
		{"index as a manifest", list + `]}`, manifest, "has no configuration"},
		{"schema 1", `{"schemaVersion":1,"fsLayers":[]}`, "", "schema 1"},
		{"schema 1 by its layers", `{"schemaVersion":2,"fsLayers":[]}`, manifest, "schema 1"},
		{"schema 1 by its type", image + `]}`, mediaTypeSchema1 + "prettyjws", "schema 1"},
		{"schema 3", `{"schemaVersion":3}`, "", "schema version 3 is not supported"},
		{"no configuration", `{"schemaVersion":2,"layers":[]}`, manifest, "has no configuration"},
		{"negative size", image + strings.Replace(layer, ":2}", ":-2}", 1) + `]}`, manifest, "out of range"},
		{"absurd size", image + strings.Replace(layer, ":2}", ":9007199254740993}", 1) + `]}`, manifest, "out of range"},
		{"digest", image + strings.Replace(layer, digA, "sha256:../x", 1) + `]}`, manifest, "64 lower case"},
		{"digest in an index", list + strings.Replace(child, digA, "sha256:../x", 1) + `]}`, index, "64 lower case"},
		{"many layers", image + layer + strings.Repeat(","+layer, 500) + `]}`, manifest, "has 501 layers, more than 500"},
		{"many manifests", list + child + strings.Repeat(","+child, 10_000) + `]}`, index, "has 10001 manifests, more than 10000"},
		{"large", image + `]}` + strings.Repeat(" ", MaxManifestSize), manifest, "more than the 4194304"},
		{"no JSON", `<html>`, manifest, "is not a manifest: invalid character"},
	} {
		doc, err := ParseDocument([]byte(test.doc), test.mediaType)
		wantErr := !strings.HasPrefix(test.want, "application/")
		if (err != nil) != wantErr || wantErr && !strings.Contains(err.Error(), test.want) || !wantErr && doc.MediaType != test.want {
			t.Errorf("%s: %v, %v, want %s", test.name, doc, err, test.want)
		}
	}
}

// TestImageDocuments holds what is more asked of an image than of another artifact.
func TestImageDocuments(t *testing.T) {
	t.Parallel()
	config := `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + digA + `","size":2}`
	layer := `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"` + digA + `","size":2}`
	const manifest = ocispec.MediaTypeImageManifest
	for _, test := range []struct{ name, doc, want string }{
		{"index", `{"schemaVersion":2,"manifests":[]}`, "not the media type of an image manifest"},
		{"chart", `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"` + digA + `","size":2}}`, "is not an image's"},
		{"layer type", `{"schemaVersion":2,"config":` + config + `,"layers":[` + strings.Replace(layer, "layer.v1.tar", "layer.v1.tar+xz", 1) + `]}`, "unknown media type"},
	} {
		doc, err := ParseDocument([]byte(test.doc), "")
		if err == nil {
			_, err = doc.Manifest()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := ParseIndex([]byte(`{"schemaVersion":2,"config":`+config+`}`), ""); err == nil || !strings.Contains(err.Error(), "not the media type of an index") {
		t.Errorf("a manifest as an index: %v", err)
	}
	if _, err := ParseConfig([]byte(`{"rootfs":{"diff_ids":["`+digA+`"]}}`), ocispec.Manifest{}); err == nil || err.Error() != "names 1 layers, its manifest 0" {
		t.Errorf("count of layers: %v", err)
	}
	l := openLayout(t, t.TempDir())
	big := describe(manifest, bytes.Repeat([]byte(" "), MaxManifestSize+1))
	if _, err := l.Image(t.Context(), big, nil); err == nil || !strings.Contains(err.Error(), "has 4194305 bytes, more than") {
		t.Errorf("large manifest: %v", err)
	}
	// An index that holds itself cannot be made; a deep one can.
	d := writeImage(t, l, "x").Descriptor
	for range MaxIndexDepth + 1 {
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
		if doc, err := ParseDocument(data, ""); err == nil {
			for _, d := range doc.Children() {
				if CheckDescriptor(d) != nil || filepath.Base(d.Digest.Encoded()) != d.Digest.Encoded() {
					t.Errorf("accepted %q", d.Digest)
				}
			}
		}
		if x, err := ParseIndex(data, ""); err == nil {
			if d, err := SelectPlatform(x, &ocispec.Platform{OS: "linux", Architecture: "arm64"}); err == nil && CheckDescriptor(d) != nil {
				t.Errorf("selected %q", d.Digest)
			}
		}
		_, _ = ParseConfig(data, ocispec.Manifest{})
		if n, err := parseRecord("a", data); err == nil && (n.Reference == Reference{} || CheckDigest(n.Descriptor.Digest) != nil) {
			t.Errorf("record %q gives %v", data, n)
		}
	})
}
