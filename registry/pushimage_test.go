package registry_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// local writes an image of uncompressed layers into a layout, as a build does.
func local(t testing.TB, l *image.Layout, tars ...[]byte) *image.Image {
	t.Helper()
	var layers []image.Layer
	for _, raw := range tars {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		if _, err := l.Push(t.Context(), d, image.Bytes(raw)); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, image.Layer{Blob: d, DiffID: d.Digest})
	}
	img, err := l.Write(t.Context(), image.Config{Image: ocispec.Image{Platform: amd64}}, layers, map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// pushOptions are those of a push from a layout.
func pushOptions(l *image.Layout, ref image.Reference, c image.Compression) registry.CopyOptions {
	return registry.CopyOptions{
		Name: ref, Index: registry.HeldImages, Forms: &registry.Forms{Source: l, Compression: c},
	}
}

func push(t testing.TB, l *image.Layout, img *image.Image, ref image.Reference, algorithm string, events ...event.Sink) ocispec.Descriptor {
	t.Helper()
	repo, err := registry.NewClient(registry.Options{Limits: quick}).Connect(ref)
	if err != nil {
		t.Fatal(err)
	}
	opts := pushOptions(l, ref, compression(t, algorithm))
	if len(events) > 0 {
		opts.Events = events[0]
	}
	d, err := registry.Copy(t.Context(), repo.Writable().Whole(), l, img.Descriptor, opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func compression(t testing.TB, algorithm string) image.Compression {
	t.Helper()
	c, err := image.ParseCompression(algorithm, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPushCompresses(t *testing.T) {
	long(t)
	t.Parallel()
	for _, host := range []string{registrytest.New(t).Host(), registrytest.DockerRegistry(t, "")} {
		for algorithm, want := range map[string]string{
			"gzip": ocispec.MediaTypeImageLayerGzip, "zstd": ocispec.MediaTypeImageLayerZstd, "none": ocispec.MediaTypeImageLayer,
		} {
			l := openLayout(t, t.TempDir())
			img := local(t, l, registrytest.Tar(t, "a", 1, 700_000), registrytest.Tar(t, "b", 2, 10))
			ref := registrytest.Ref(t, host+"/app:"+algorithm)
			events := map[string]event.Event{}
			d := push(t, l, img, ref, algorithm, func(e event.Event) { events[e.Blob.Digest] = e })
			there, back := inspect(t, ref, &amd64)
			if there.Digest != d.Digest || back.ID() != img.ID() || back.Manifest.Annotations["a"] != "b" {
				t.Errorf("%s: pushed %s, read back %+v", algorithm, d.Digest, back.Manifest)
			}
			for _, layer := range back.Manifest.Layers {
				if layer.MediaType != want {
					t.Errorf("%s: layer is %s", algorithm, layer.MediaType)
				}
			}
			for id, e := range events {
				if e.Blob.State != event.Copied {
					t.Errorf("%s: last event of %s is %+v", algorithm, id, e)
				}
			}
			root := t.TempDir()
			if err := pullTo(t.Context(), t, root, ref, false); err != nil {
				t.Fatal(err)
			}
			checkLayout(t, root, ref, true)
		}
	}
}

// TestPushAgain counts what a push costs when little has changed.
func TestPushAgain(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	l := openLayout(t, t.TempDir())
	base, lib := registrytest.Tar(t, "base", 1, 300_000), registrytest.Tar(t, "lib", 2, 200_000)
	img := local(t, l, base, lib, registrytest.Tar(t, "file", 3, 100))
	push(t, l, img, ref, "gzip")

	r.Reset()
	push(t, l, img, ref, "gzip")
	if got := r.Requests("", "/v2/app"); len(got) != 1 {
		t.Errorf("pushing the same again took %+v, want one look", got)
	}

	r.Reset()
	changed := local(t, l, base, lib, registrytest.Tar(t, "file", 4, 100))
	d := push(t, l, changed, ref, "gzip")
	// One look, the layer's three and the configuration's two, the manifest.
	var sent int64
	got := r.Requests("", "/v2/app")
	for _, q := range got {
		sent += max(q.Length, 0)
	}
	if len(got) != 7 || sent > 3000 || len(r.Requests("PATCH", "")) != 1 || len(r.Requests("HEAD", "")) != 0 {
		t.Errorf("pushing a changed file took %d requests with %d bytes: %+v", len(got), sent, got)
	}
	if back, err := connect(t, ref, registry.Options{}).Resolve(t.Context(), ref); err != nil || back.Digest != d.Digest {
		t.Errorf("name stands for %s, %v; want %s", back.Digest, err, d.Digest)
	}

	// Another name in the same repository, whose manifest is not known: what is remembered is asked for, not compressed.
	r.Reset()
	other := ref
	other.Tag = "2"
	push(t, l, img, other, "gzip")
	if n := len(r.Requests("PATCH", "")) + len(r.Requests("PUT", "/uploads/")); n != 1 { // the configuration
		t.Errorf("%d blobs sent for another tag, want 1", n)
	}
}

// deleteFrom has a registry that speaks http remove a blob or a manifest.
func deleteFrom(t *testing.T, ref image.Reference, kind string, d digest.Digest) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, fmt.Sprintf("http://%s/v2/%s/%s/%s", ref.Domain, ref.Path, kind, d), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("DELETE %s: %s", req.URL, resp.Status)
	}
}

// TestPushWhenTheRegistryLostALayer finds out by the refused manifest.
func TestPushWhenTheRegistryLostALayer(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	l := openLayout(t, t.TempDir())
	base := registrytest.Tar(t, "base", 1, 300_000)
	push(t, l, local(t, l, base, registrytest.Tar(t, "file", 3, 100)), ref, "gzip")
	_, img := inspect(t, ref, &amd64)
	deleteFrom(t, ref, "blobs", img.Manifest.Layers[0].Digest)
	push(t, l, local(t, l, base, registrytest.Tar(t, "file", 4, 100)), ref, "gzip")
	root := t.TempDir()
	if err := pullTo(t.Context(), t, root, ref, false); err != nil {
		t.Error(err)
	}
}

// TestPushSurvivesWhileItCompresses breaks the one request that a compressed layer goes by.
func TestPushSurvivesWhileItCompresses(t *testing.T) {
	long(t)
	t.Parallel()
	for name, faults := range map[string][]fault{
		"reset, nothing kept": {{Method: "PATCH", Times: 2, Do: registrytest.Reset(100_000)}},
		"reset, bytes kept":   {{Method: "PATCH", Times: 2, Do: registrytest.ResetAfter(2 << 20)}},
		"503":                 {{Method: "PATCH", Times: 2, Do: registrytest.Status(503)}},
		"answer lost":         {{Method: "PATCH", Times: 1, Do: registrytest.Swallow()}},
		"last answer lost":    {{Method: "PUT", Path: "/uploads/", Times: 2, Do: registrytest.Swallow()}},
		"no unknown length":   {{Method: "PATCH", Do: registrytest.Status(411)}},
		"session lost":        {{Method: "PATCH", Times: 1, Do: registrytest.Reset(10)}, {Method: "GET", Path: "/uploads/", Times: 1, Do: registrytest.Status(404)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			ref := r.Ref(t, "app:1")
			l := openLayout(t, t.TempDir())
			img := local(t, l, registrytest.Tar(t, "a", 1, 3<<20))
			for _, f := range faults {
				r.Fault(f)
			}
			push(t, l, img, ref, "gzip")
			root := t.TempDir()
			if err := pullTo(t.Context(), t, root, ref, false); err != nil {
				t.Fatal(err)
			}
			checkLayout(t, root, ref, true)
		})
	}
}

// TestPushKeepsWhatWasPulled pushes a pulled image on byte for byte, and mounts what the registry has elsewhere.
func TestPushKeepsWhatWasPulled(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "library/base:1")
	_, d := put(t, ref, 1, 300_000, 2000)
	root := t.TempDir()
	if err := pullTo(t.Context(), t, root, ref, false); err != nil {
		t.Fatal(err)
	}
	l := openLayout(t, root)
	img, err := l.Image(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Reset()
	mounted, to := 0, r.Ref(t, "my/app:1")
	repo := connect(t, to, registry.Options{}).Writable().Whole()
	repo.MountFrom(func(d digest.Digest) string {
		if d == img.Manifest.Config.Digest {
			return ""
		}
		return ref.Path
	})
	opts := pushOptions(l, to, image.Compression{})
	opts.Events = func(e event.Event) {
		if e.Blob.State == event.Mounted {
			mounted++
		}
	}
	got, err := registry.Copy(t.Context(), repo, l, d, opts)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != d.Digest || mounted != 2 || len(r.Requests("PATCH", "")) != 0 {
		t.Errorf("pushed %s, mounted %d; want %s and 2", got.Digest, mounted, d.Digest)
	}
}

func TestPushSendsALayerOnce(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	l := openLayout(t, t.TempDir())
	twice := registrytest.Tar(t, "a", 1, 1000)
	push(t, l, local(t, l, twice, registrytest.Tar(t, "b", 2, 1000), twice), ref, "gzip")
	if n := len(r.Requests("PATCH", "")); n != 2 {
		t.Errorf("%d layers sent, want 2", n)
	}
	root := t.TempDir()
	if err := pullTo(t.Context(), t, root, ref, false); err != nil {
		t.Fatal(err)
	}
	checkLayout(t, root, ref, true)
}

func TestPushIndex(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	src := registrytest.NewMemory()
	arm := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	a, b := src.AddImage(t, 1, amd64, false, 1000), src.AddImage(t, 2, arm, false, 1000)
	index := src.AddIndex(t, a, b)
	l := openLayout(t, t.TempDir())
	if _, err := registry.Copy(t.Context(), l, src, index, registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	ref := r.Ref(t, "multi:1")
	repo := connect(t, ref, registry.Options{}).Writable().Whole()
	if got, err := registry.Copy(t.Context(), repo, l, index, pushOptions(l, ref, image.Compression{})); err != nil || got.Digest != index.Digest {
		t.Errorf("Push of an index = %s, %v", got.Digest, err)
	}
	// Of a sparse one, what is here goes.
	half := openLayout(t, t.TempDir())
	if _, err := registry.Copy(t.Context(), half, src, index, registry.CopyOptions{Index: registry.WholeIndex, Platforms: []ocispec.Platform{arm}}); err != nil {
		t.Fatal(err)
	}
	other := r.Ref(t, "half:1")
	if _, err := registry.Copy(t.Context(), connect(t, other, registry.Options{}).Writable().Whole(), half, index, pushOptions(half, other, image.Compression{})); err != nil {
		t.Fatal(err)
	}
	if d, _ := inspect(t, other, &arm); d.Digest != b.Digest {
		t.Errorf("the one image of a sparse index arrived as %+v", d)
	}
}

func TestPushDeniedAndDamaged(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	root := t.TempDir()
	l := openLayout(t, root)
	raw := registrytest.Tar(t, "a", 1, 300_000)
	img := local(t, l, raw)
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	raw[200_000] ^= 1
	path := l.BlobPath(img.Manifest.Layers[0].Digest)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []string{"gzip", "none"} {
		repo := connect(t, ref, registry.Options{}).Writable().Whole()
		_, err := registry.Copy(t.Context(), repo, l, img.Descriptor, pushOptions(l, ref, compression(t, algorithm)))
		if err == nil || !strings.Contains(err.Error(), img.Manifest.Layers[0].Digest.String()) {
			t.Errorf("%s: push of a damaged layer: %v, want an error that names it", algorithm, err)
		}
	}
	if n := len(r.Requests("PATCH", "")); n > 1 {
		t.Errorf("damaged layer was sent %d times", n)
	}
	r.Fault(fault{Do: registrytest.Status(403)})
	_, err := registry.Copy(t.Context(), connect(t, ref, registry.Options{}).Writable().Whole(), l, img.Descriptor, pushOptions(l, ref, image.Compression{}))
	if err == nil || !contains(err.Error(), ref.String(), "denied", "forge login "+r.Host()) {
		t.Errorf("denied push: %v", err)
	}
}

var (
	_ image.Store          = (*registry.Repository)(nil)
	_ image.Store          = (*image.Layout)(nil)
	_ image.Store          = (*image.Dir)(nil)
	_ image.Store          = (*image.Archive)(nil)
	_ image.Store          = (*image.ArchiveWriter)(nil)
	_ registry.LayerSource = (*image.Layout)(nil)
)
