package pages_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry/server/pages"
)

// A registry has one repository, in memory, and counts what is read of it.
type registry struct {
	blobs map[digest.Digest][]byte
	about map[digest.Digest][]digest.Digest
	tag   ocispec.Descriptor
	reads int
	bytes int64
	read  func() // called for each
}

func (r *registry) Repositories() ([]string, error) { return []string{"a"}, nil }

func (r *registry) Tags(string) ([]pages.Tag, error) {
	return []pages.Tag{{Name: "v1", Digest: r.tag.Digest, Pushed: time.Now()}}, nil
}

func (r *registry) Manifest(_, reference string) (ocispec.Descriptor, error) {
	if d := digest.Digest(reference); reference != "v1" && d != r.tag.Digest {
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(r.blobs[d]))}, nil
	}
	return r.tag, nil
}

func (r *registry) Referrers(_ string, d digest.Digest) ([]digest.Digest, error) {
	return r.about[d], nil
}

func (r *registry) Content(string) image.Fetcher { return r }

func (r *registry) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	r.reads++
	r.bytes += d.Size
	if r.read != nil {
		r.read()
	}
	raw, ok := r.blobs[d.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return image.Bytes(raw).Open(ctx, offset)
}

func (r *registry) put(t *testing.T, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	r.blobs[d.Digest] = raw
	return d
}

func (r *registry) putManifest(t *testing.T, config ocispec.Descriptor, note string) ocispec.Descriptor {
	t.Helper()
	return r.put(t, ocispec.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config, "layers": []any{}, "annotations": map[string]string{"n": note},
	})
}

func (r *registry) putIndex(t *testing.T, rows []ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	return r.put(t, ocispec.MediaTypeImageIndex, map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": rows})
}

func (r *registry) putConfig(t *testing.T, author string, config map[string]any) ocispec.Descriptor {
	t.Helper()
	return r.put(t, ocispec.MediaTypeImageConfig, map[string]any{
		"architecture": "amd64", "os": "linux", "config": config, "rootfs": map[string]any{"type": "layers", "diff_ids": []string{}},
		"history": []any{map[string]any{"created_by": author, "empty_layer": true}},
	})
}

// get asks for a page and counts what that reads.
func (r *registry) get(t *testing.T, ctx context.Context, path string) *httptest.ResponseRecorder {
	t.Helper()
	p, err := pages.New(r)
	if err != nil {
		t.Fatal(err)
	}
	r.reads, r.bytes = 0, 0
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", path, nil))
	return w
}

func newRegistry() *registry {
	return &registry{blobs: map[digest.Digest][]byte{}, about: map[digest.Digest][]digest.Digest{}}
}

func times(n int, d ocispec.Descriptor) []ocispec.Descriptor {
	rows := make([]ocispec.Descriptor, n)
	for i := range rows {
		rows[i] = d
	}
	return rows
}

// TestRowsOfOneDigest holds that what an index names many times is read once for a page, and that indexes within it cost nothing.
func TestRowsOfOneDigest(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	m := r.putManifest(t, r.putConfig(t, "x", nil), "")
	r.tag = r.putIndex(t, times(100, m))
	for path, most := range map[string]int{"/ui/repository?name=a": 2, "/ui/image?name=a&ref=v1": 3} {
		w := r.get(t, t.Context(), path)
		if w.Code != http.StatusOK || r.reads > most || strings.Contains(w.Body.String(), `class="problem"`) {
			t.Errorf("%s: HTTP %d, %d documents were read, not %d\n%.2000s", path, w.Code, r.reads, most, w.Body)
		}
	}
	if w := r.get(t, t.Context(), "/ui/image?name=a&ref=v1"); strings.Count(w.Body.String(), "<section>") != 1 {
		t.Errorf("an image is shown %d times", strings.Count(w.Body.String(), "<section>"))
	}
	for range 2 {
		r.tag = r.putIndex(t, times(50, r.tag))
	}
	if w := r.get(t, t.Context(), "/ui/repository?name=a"); w.Code != http.StatusOK || r.reads != 1 {
		t.Errorf("indexes within each other: HTTP %d, %d documents were read", w.Code, r.reads)
	}
}

// TestPageEndsWithItsClient holds that nothing is read for a client that has gone.
func TestPageEndsWithItsClient(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	var rows []ocispec.Descriptor
	config := r.putConfig(t, "x", nil)
	for i := range 100 {
		rows = append(rows, r.putManifest(t, config, fmt.Sprint(i)))
	}
	r.tag = r.putIndex(t, rows)
	for _, path := range []string{"/ui/repository?name=a", "/ui/image?name=a&ref=v1"} {
		ctx, cancel := context.WithCancel(t.Context())
		r.read = cancel
		if r.get(t, ctx, path); r.reads != 1 {
			t.Errorf("%s: %d documents were read", path, r.reads)
		}
	}
}

// TestPageIsBounded holds that one page reads, and shows, no more than is good for the registry.
func TestPageIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 32 << 20
	r := newRegistry()
	long := strings.Repeat("x", 1<<20)
	config := r.putConfig(t, long, map[string]any{"Env": []string{"A=" + long[:10_000]}, "Labels": map[string]string{"l": long[:10_000]}})
	r.tag = r.putManifest(t, config, "")
	if w := r.get(t, t.Context(), "/ui/image?name=a&ref=v1"); w.Code != http.StatusOK || w.Body.Len() > 50_000 || !strings.Contains(w.Body.String(), "…") {
		t.Errorf("long texts: HTTP %d, %d bytes", w.Code, w.Body.Len())
	}
	if testing.Short() {
		t.Skip("takes long")
	}
	var rows []ocispec.Descriptor
	for i := range 40 {
		m := r.putManifest(t, config, fmt.Sprint(i))
		rows = append(rows, m)
		about := r.put(t, ocispec.MediaTypeImageManifest, map[string]any{
			"schemaVersion": 2, "config": config, "layers": []any{}, "annotations": map[string]string{"x": long, "n": fmt.Sprint(i)},
		})
		r.about[rows[0].Digest] = append(r.about[rows[0].Digest], about.Digest)
	}
	for _, rows := range [][]ocispec.Descriptor{rows[1:], rows[:1]} {
		r.tag = r.putIndex(t, rows)
		w := r.get(t, t.Context(), "/ui/image?name=a&ref=v1")
		if w.Code != http.StatusOK || r.bytes > limit || !strings.Contains(w.Body.String(), "more than a page can show") {
			t.Errorf("%d rows: HTTP %d, %d bytes were read\n%.2000s", len(rows), w.Code, r.bytes, w.Body)
		}
	}
	env := strings.Split(strings.Repeat("x", 500_000), "")
	r.tag = r.putManifest(t, r.putConfig(t, "x", map[string]any{"Env": env}), "")
	if w := r.get(t, t.Context(), "/ui/image?name=a&ref=v1"); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "more than a page can show") {
		t.Errorf("a page of %d bytes: HTTP %d", w.Body.Len(), w.Code)
	}
}

// TestPackages holds how a list of packages is read.
func TestPackages(t *testing.T) {
	t.Parallel()
	for statement, want := range map[string]string{
		`{"x":[{"packages":1}],"predicate":{"y":{},"packages":[{},{"name":"` + strings.Repeat("n", 10_000) + `","versionInfo":"1"}]}}`: "nnn…",
		`{}`:                              "0 packages",
		`{"predicate":{}}`:                "0 packages",
		`{"predicate":null}`:              "0 packages",
		`{"predicate":{"packages":null}}`: "0 packages",
		`{"predicate":{"packages":[{}]}}`: "0 packages",
		`{"predicate":[]}`:                "cannot show",
		`{"predicate":{"packages":[{`:     "cannot show",
		`[`:                               "cannot show",
	} {
		r := newRegistry()
		layer := ocispec.Descriptor{MediaType: "application/vnd.in-toto+json", Digest: digest.FromString(statement), Size: int64(len(statement))}
		r.blobs[layer.Digest] = []byte(statement)
		r.tag = r.put(t, ocispec.MediaTypeImageManifest, map[string]any{"schemaVersion": 2, "config": r.putConfig(t, "x", nil), "layers": []any{layer}})
		w := r.get(t, t.Context(), "/ui/packages?name=a&n=0&digest="+r.tag.Digest.String())
		if !strings.Contains(w.Body.String(), want) || w.Body.Len() > 8000 {
			t.Errorf("%.100s: HTTP %d, %d bytes, %q is not there", statement, w.Code, w.Body.Len(), want)
		}
	}
}
