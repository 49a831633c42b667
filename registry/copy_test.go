package registry_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

func TestCopyBothWays(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "team/app:1")
	src, d := put(t, ref, 1, 1000, 300_000, 0)

	var mu sync.Mutex
	last := map[string]event.Event{}
	repo := connect(t, ref, registry.Options{})
	dst, err := pull(t.Context(), repo, registry.CopyOptions{Events: func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Total >= 0 && e.Bytes > e.Total {
			t.Errorf("event %+v: more than there is", e)
		}
		last[e.Blob.Digest] = e
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := dst.Len(), src.Len(); got != want {
		t.Errorf("pulled %d blobs, want %d", got, want)
	}
	if got, err := dst.Resolve(t.Context(), ref); err != nil || got.Digest != d.Digest {
		t.Errorf("name stands for %s, %v; want %s", got.Digest, err, d.Digest)
	}
	for dgst, e := range last {
		if e.Blob.State != event.Copied || e.Bytes != e.Total {
			t.Errorf("last event of %s is %+v, want done in full", dgst, e)
		}
	}
	if len(last) != src.Len() {
		t.Errorf("events of %d blobs, want %d", len(last), src.Len())
	}
}

func TestCopySendsOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	src, d := put(t, r.Ref(t, "a:1"), 1, 5000, 6000)
	r.Reset()

	ref := r.Ref(t, "a:2")
	repo := connect(t, ref, registry.Options{})
	if _, err := registry.Copy(t.Context(), repo, src, d, registry.CopyOptions{Name: ref}); err != nil {
		t.Fatal(err)
	}
	if got := r.Requests("POST", ""); len(got) != 0 {
		t.Errorf("uploads began for blobs that are there: %v", got)
	}
	r.Reset()

	// To another repository of the registry nothing is sent: it mounts.
	from := connect(t, r.Ref(t, "a:1"), registry.Options{})
	to := connect(t, r.Ref(t, "b/c:1"), registry.Options{})
	to.MountFrom(to.MountsOf(from))
	mounted := 0
	_, err := registry.Copy(t.Context(), to, from, d, registry.CopyOptions{Name: to.Reference(), Events: func(e event.Event) {
		if e.Blob.State == event.Mounted {
			mounted++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Requests("GET", "/blobs/"); len(got) != 0 || mounted != 3 {
		t.Errorf("%d mounted, want 3; blobs fetched: %v", mounted, got)
	}
	if _, err := pull(t.Context(), to, registry.CopyOptions{}); err != nil {
		t.Error(err)
	}
}

func TestCopyIndex(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	arm64 := ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	s390 := ocispec.Platform{OS: "linux", Architecture: "s390x"}
	src := registrytest.NewMemory()
	a, b, c := src.AddImage(t, 1, amd64, false, 100), src.AddImage(t, 2, arm64, false, 100), src.AddImage(t, 3, s390, true, 100)
	index := src.AddIndex(t, a, b, c)
	ref := r.Ref(t, "multi:1")
	repo := connect(t, ref, registry.Options{})
	if got, err := registry.Copy(t.Context(), repo, src, index, registry.CopyOptions{Name: ref}); err != nil || got.Digest != index.Digest {
		t.Fatalf("Copy = %s, %v; want the index", got.Digest, err)
	}

	for _, test := range []struct {
		name  string
		opts  registry.CopyOptions
		root  digest.Digest
		blobs int
	}{
		{"all", registry.CopyOptions{}, index.Digest, 10},
		{"one", registry.CopyOptions{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}}, b.Digest, 3},
		{"two", registry.CopyOptions{Platforms: []ocispec.Platform{amd64, s390}}, "", 7},
		{"sparse", registry.CopyOptions{Platforms: []ocispec.Platform{s390}, Index: registry.WholeIndex}, index.Digest, 4},
	} {
		dst := registrytest.NewMemory()
		got, err := registry.Copy(t.Context(), dst, repo, index, test.opts)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if test.root != "" && got.Digest != test.root || dst.Len() != test.blobs {
			t.Errorf("%s: root %s and %d blobs, want %s and %d", test.name, got.Digest, dst.Len(), test.root, test.blobs)
		}
	}
	_, err := registry.Copy(t.Context(), registrytest.NewMemory(), repo, index, registry.CopyOptions{
		Platforms: []ocispec.Platform{{OS: "windows", Architecture: "amd64"}},
	})
	if err == nil || !contains(err.Error(), "windows/amd64", "linux/arm64") {
		t.Errorf("error %v: want it to name what is wanted and what there is", err)
	}
}

func TestCopyRefusesIncompleteSource(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	src := registrytest.NewMemory()
	good := src.AddImage(t, 1, amd64, false, 100)
	lost := registrytest.NewMemory()
	raw := ocispec.Descriptor{MediaType: good.MediaType, Digest: good.Digest, Size: good.Size}
	if _, err := lost.Push(t.Context(), raw, image.ContentOf(src, raw)); err != nil {
		t.Fatal(err)
	}
	ref := r.Ref(t, "app:1")
	repo := connect(t, ref, registry.Options{})
	if _, err := registry.Copy(t.Context(), repo, lost, good, registry.CopyOptions{Name: ref}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Copy without blobs = %v, want fs.ErrNotExist", err)
	}
	if _, err := repo.Resolve(t.Context(), ref); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Resolve after a failed copy = %v, want fs.ErrNotExist: nothing may be half-tagged", err)
	}
}

// TestTagsAndReferrers lists tags, and pushes a manifest about another: where the registry keeps no list of such, the client
// keeps it under a tag.
func TestTagsAndReferrers(t *testing.T) {
	long(t)
	t.Parallel()
	for name, host := range map[string]string{
		"ours":            registrytest.New(t).Host(),
		"docker-registry": registrytest.DockerRegistry(t, ""),
	} {
		t.Run(name, func(t *testing.T) { testTagsAndReferrers(t, host) })
	}
}

func testTagsAndReferrers(t *testing.T, host string) {
	ref, two := registrytest.Ref(t, host+"/app:one"), registrytest.Ref(t, host+"/app:two")
	src, d := put(t, ref, 7, 100)
	registrytest.Push(t, two, src, d)
	repo := connect(t, ref, registry.Options{})
	tags, err := repo.Tags(t.Context())
	slices.Sort(tags)
	if err != nil || !slices.Equal(tags, []string{"one", "two"}) {
		t.Errorf("Tags = %v, %v", tags, err)
	}

	empty := src.Add(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	about := src.AddJSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: versioned, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/x-sbom",
		Config: empty, Layers: []ocispec.Descriptor{empty}, Subject: &ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size},
	})
	for range 2 { // the second time changes nothing
		if _, err := registry.Copy(t.Context(), connect(t, ref, registry.Options{}), src, about, registry.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	list := registrytest.Ref(t, host+"/app:"+strings.ReplaceAll(d.Digest.String(), ":", "-"))
	at, err := repo.Resolve(t.Context(), list)
	if strings.HasSuffix(t.Name(), "ours") {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a registry that lists referrers has %s, too: %v", list, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	index, _, err := image.ReadDocument(t.Context(), repo, at)
	if err != nil || len(index.Manifests) != 1 || index.Manifests[0].Digest != about.Digest || index.Manifests[0].ArtifactType != "application/x-sbom" {
		t.Errorf("referrers are %+v, %v; want %s", index, err, about.Digest)
	}
}

// TestConfigOfMany holds that a configuration that many manifests have is read once.
func TestConfigOfMany(t *testing.T) {
	t.Parallel()
	src := &configCounter{Memory: registrytest.NewMemory()}
	one := src.AddImage(t, 1, amd64, false, 1000)
	m := manifestOf(t, src.Memory, one)
	rows := make([]ocispec.Descriptor, 100)
	for i := range rows {
		m.Annotations = map[string]string{"number": strconv.Itoa(i)}
		rows[i] = src.AddJSON(t, ocispec.MediaTypeImageManifest, m)
	}
	src.config = m.Config.Digest
	l := openLayout(t, t.TempDir())
	if _, err := registry.Copy(t.Context(), l, src, src.AddIndex(t, rows...), into(l, registry.CopyOptions{})); err != nil {
		t.Fatal(err)
	}
	if n := src.reads.Load(); n > 2 { // to know the layers, and to be copied
		t.Errorf("it was read %d times", n)
	}
}

// A configCounter counts how often a blob is read.
type configCounter struct {
	*registrytest.Memory
	config digest.Digest
	reads  atomic.Int64
}

func (c *configCounter) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if d.Digest == c.config {
		c.reads.Add(1)
	}
	return c.Memory.Fetch(ctx, d, offset)
}
