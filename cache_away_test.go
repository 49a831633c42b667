package forge_test

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry/registrytest"
)

// claims pushes two images of a layer each, mine:1 and secret:1, and lie:1, which names the blob of the first beside the diffID of the second.
func claims(t *testing.T, r *registrytest.Registry) (blob ocispec.Descriptor, secret digest.Digest) {
	t.Helper()
	src := registrytest.NewMemory()
	push := func(name string, blob ocispec.Descriptor, diffID digest.Digest) {
		config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}
		config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}
		registrytest.Push(t, r.Ref(t, name), src, src.AddJSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: src.AddJSON(t, ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{blob},
		}))
	}
	var blobs []ocispec.Descriptor
	var diffIDs []digest.Digest
	for i, name := range []string{"mine", "secret"} {
		raw := registrytest.Tar(t, name, uint64(i), 1000)
		blobs, diffIDs = append(blobs, src.Add(ocispec.MediaTypeImageLayerGzip, registrytest.Gzip(t, raw))), append(diffIDs, digest.FromBytes(raw))
		push(name+":1", blobs[i], diffIDs[i])
	}
	push("lie:1", blobs[0], diffIDs[1])
	return blobs[0], diffIDs[1]
}

// pullBoth pulls the images that claims tells the truth of.
func pullBoth(t *testing.T, r *registrytest.Registry, h *forge.Home) {
	t.Helper()
	for _, name := range []string{"mine:1", "secret:1"} {
		if _, err := h.Pull(t.Context(), r.Host()+"/"+name, forge.PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// home is a machine that has done nothing yet.
func home(t *testing.T) *forge.Home {
	t.Helper()
	h, err := forge.Open(t.Context(), forge.Options{Dir: t.TempDir(), Snapshotter: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// TestAwayClaimedLayer: an image whose layers are away names another image's layer beside a blob that is not that layer's. When both have come
// with other images, it does not get the files of that one, nor when it was built where they are.
func TestAwayClaimedLayer(t *testing.T) {
	t.Parallel()
	r, h, dir := registrytest.New(t), home(t), t.TempDir()
	blob, _ := claims(t, r)
	build := func(from string, out forge.Output, tags ...string) error {
		write(t, dir+"/Dockerfile", "FROM "+r.Host()+"/"+from+"\nLABEL a=b\n")
		o := forge.BuildOptions{SourceOptions: forge.SourceOptions{Context: dir}}
		o.Cache, o.Tags, o.Outputs = "none", tags, []forge.Output{out}
		_, err := h.Build(t.Context(), o)
		return err
	}
	pushed := forge.Output{Type: "image", Attrs: map[string]string{"push": "true"}}
	if err := build("lie:1", pushed, r.Host()+"/away:1"); err != nil {
		t.Fatal(err)
	}
	pullBoth(t, r, h)
	for what, err := range map[string]error{
		"a build on it":               build("away:1", forge.Output{Type: "tar", Dest: dir + "/out.tar"}),
		"saving it":                   h.Save(t.Context(), []string{r.Host() + "/away:1"}, forge.SaveOptions{File: "-", Stdout: io.Discard}),
		"a build where all of it is":  build("lie:1", pushed, r.Host()+"/here:1"),
		"a build on what that pushed": build("here:1", forge.Output{Type: "tar", Dest: dir + "/out.tar"}),
	} {
		if err == nil || !strings.Contains(err.Error(), "layer "+blob.Digest.String()) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// forgeAnswers has the cache in a directory answer everything with a layer.
func forgeAnswers(t *testing.T, place string, blob ocispec.Descriptor, diffID digest.Digest) {
	t.Helper()
	dir, err := image.OpenDir(place)
	if err != nil {
		t.Fatal(err)
	}
	near, err := cache.OpenSteps(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	scope := &remote.Scope{Place: &remote.Place{Name: place, Read: dir, Write: dir, Tags: dir}, Name: "latest", Tags: []string{"latest"}}
	c := remote.New(remote.Options{Near: near})
	_, records, err := c.Records(t.Context(), scope)
	if err != nil || len(records) == 0 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i := range records {
		records[i].Layer.DiffID, records[i].Created = diffID, records[i].Created.Add(time.Hour)
	}
	forms := map[digest.Digest]ocispec.Descriptor{diffID: blob}
	if _, err := c.Save(t.Context(), &remote.Target{Scope: scope}, records, forms); err != nil {
		t.Fatal(err)
	}
}

// TestSharedCacheClaimedLayer: a cache that answers with a blob which is here beside the diffID of another image's layer does not give a build
// the files of that one.
func TestSharedCacheClaimedLayer(t *testing.T) {
	t.Parallel()
	s, place := newSharing(t), t.TempDir()
	blob, secret := claims(t, s.r)
	write(t, s.dir+"/Dockerfile", "FROM scratch\nCOPY a /a\n")
	build := func(h *forge.Home) error {
		o := forge.BuildOptions{SourceOptions: forge.SourceOptions{Context: s.dir}}
		o.From = []forge.CacheSpec{{Type: "local", Attrs: map[string]string{"src": place}}}
		o.To = []forge.CacheSpec{{Type: "local", Attrs: map[string]string{"dest": place}}}
		o.Outputs = []forge.Output{{Type: "tar", Dest: s.dir + "/out.tar"}}
		_, err := h.Build(t.Context(), o)
		return err
	}
	if err := build(home(t)); err != nil {
		t.Fatal(err)
	}
	forgeAnswers(t, place, blob, secret)
	h := home(t)
	pullBoth(t, s.r, h)
	if err := build(h); err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(s.dir + "/out.tar")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("secret")) || !bytes.Contains(out, []byte("aaaa")) {
		t.Error("the image has another image's files")
	}
}
