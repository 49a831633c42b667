package registry_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

var versioned = specs.Versioned{SchemaVersion: 2}

func contains(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

type fault = registrytest.Fault

const schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"

func TestPullSurvives(t *testing.T) {
	long(t)
	t.Parallel()
	for name, faults := range map[string][]fault{
		"503 twice, everywhere":     {{Times: 2, Do: registrytest.Status(503)}},
		"503 twice for blobs":       {{Path: "/blobs/", Times: 2, Do: registrytest.Status(503)}},
		"429":                       {{Path: "/manifests/", Times: 1, Do: registrytest.Busy("1")}},
		"408":                       {{Path: "/blobs/", Times: 1, Do: registrytest.Status(408)}},
		"HEAD is not allowed":       {{Method: "HEAD", Do: registrytest.Status(405)}},
		"cut manifest":              {{Method: "GET", Path: "/manifests/", Times: 2, Do: registrytest.Cut(20)}},
		"cut blobs":                 {{Path: "/blobs/", Times: 4, Do: registrytest.Cut(50_000)}},
		"cut before the first byte": {{Path: "/blobs/", Times: 4, Do: registrytest.Cut(0)}},
		"resets":                    {{Path: "/blobs/", Times: 4, Do: registrytest.Reset(0)}},
		"cut, then ranges ignored": {
			{Path: "/blobs/", Times: 2, Do: registrytest.Cut(50_000)}, {Path: "/blobs/", Do: registrytest.IgnoreRange()},
		},
		"cut, then a false range": {
			{Path: "/blobs/", Times: 2, Do: registrytest.Cut(50_000)}, {Path: "/blobs/", Times: 2, Do: registrytest.FalseRange()},
		},
		"silent once":             {{Path: "/blobs/", Times: 1, Do: registrytest.Silence()}},
		"manifest without a type": {{Path: "/manifests/", Do: registrytest.Header("Content-Type", "application/json")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			ref := r.Ref(t, "app:1")
			src, _ := put(t, ref, 1, 200_000, 120_000)
			for _, f := range faults {
				r.Fault(f)
			}
			limits := quick
			if name == "silent once" {
				limits.Headers, limits.Idle = hasty.Headers, hasty.Idle
			}
			dst, err := pull(t.Context(), connect(t, ref, registry.Options{Limits: limits}), registry.CopyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if dst.Len() != src.Len() {
				t.Errorf("pulled %d blobs, want %d", dst.Len(), src.Len())
			}
		})
	}
}

func TestPullRefuses(t *testing.T) {
	long(t)
	t.Parallel()
	huge := bytes.Repeat([]byte(" "), 5<<20)
	both := []byte(`{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}`)
	for name, test := range map[string]struct {
		fault fault
		want  string
	}{
		"503 for ever":           {fault{Path: "/blobs/", Do: registrytest.Status(503)}, "given up after 6 tries"},
		"429 for ever":           {fault{Path: "/manifests/", Do: registrytest.Busy("600")}, "too many requests"},
		"cut for ever":           {fault{Path: "/blobs/", Do: registrytest.Cut(10)}, "broke off after"},
		"silence":                {fault{Path: "/manifests/", Do: registrytest.Silence()}, "does not answer"},
		"dripping blob":          {fault{Path: "/blobs/", Do: registrytest.Drip(10 * time.Millisecond)}, "too slow"},
		"dripping manifest":      {fault{Path: "/manifests/", Do: registrytest.Drip(20 * time.Millisecond)}, "too slow"},
		"flipped bit in blob":    {fault{Path: "/blobs/", Do: registrytest.Flip()}, "content"},
		"flipped bit, manifest":  {fault{Method: "GET", Path: "/manifests/", Do: registrytest.Flip()}, "manifest"},
		"endless blob":           {fault{Path: "/blobs/", Do: registrytest.Endless()}, "longer"},
		"endless manifest":       {fault{Method: "GET", Path: "/manifests/", Do: registrytest.Endless()}, "longer than 4 MiB"},
		"wrong size":             {fault{Path: "/blobs/", Do: registrytest.Answer("application/octet-stream", []byte("x"))}, "manifest says"},
		"schema 1":               {fault{Path: "/manifests/", Do: registrytest.Answer(schema1, []byte(`{"schemaVersion":1,"fsLayers":[]}`))}, "schema 1"},
		"schema 1 as JSON":       {fault{Path: "/manifests/", Do: registrytest.Answer("application/json", []byte(`{"schemaVersion":1,"fsLayers":[]}`))}, "schema 1"},
		"huge manifest":          {fault{Path: "/manifests/", Do: registrytest.Answer(ocispec.MediaTypeImageManifest, huge)}, "4 MiB"},
		"image and index":        {fault{Path: "/manifests/", Do: registrytest.Answer(ocispec.MediaTypeImageManifest, both)}, "both layers and manifests"},
		"type disagrees":         {fault{Path: "/manifests/", Do: registrytest.Header("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")}, "came as"},
		"HTML":                   {fault{Path: "/manifests/", Do: registrytest.Answer("text/html", []byte("<html>"))}, "not"},
		"404":                    {fault{Path: "/manifests/", Do: registrytest.Status(404)}, "not found"},
		"403":                    {fault{Path: "/manifests/", Do: registrytest.Status(403)}, "denied"},
		"redirect for ever":      {fault{Path: "/blobs/", Do: registrytest.Redirect(307, "/v2/app/blobs/sha256:00")}, "redirects"},
		"redirect to file":       {fault{Path: "/blobs/", Do: registrytest.Redirect(307, "file:///etc/passwd")}, "not http"},
		"redirect to link-local": {fault{Path: "/blobs/", Do: registrytest.Redirect(307, "http://169.254.169.254/latest")}, "link-local"},
		"redirect to private":    {fault{Path: "/blobs/", Do: registrytest.Redirect(307, "http://10.0.0.1/")}, "private"},
		"encoded":                {fault{Path: "/blobs/", Do: registrytest.Header("Content-Encoding", "br")}, "encoding"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			ref := r.Ref(t, "app:1")
			put(t, ref, 1, 200_000, 120_000)
			r.Reset()
			r.Fault(test.fault)
			dst, err := pull(t.Context(), connect(t, ref, registry.Options{Limits: limitsFor(test.want)}), registry.CopyOptions{})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v: want one line with %q", err, test.want)
			}
			if _, err := dst.Resolve(t.Context(), ref); err == nil {
				t.Error("the name was given in spite of the failure")
			}
			for _, path := range []string{"/blobs/", "/manifests/"} {
				if n := len(r.Requests("GET", path)); n > 6*3 && name != "redirect for ever" { // of three blobs
					t.Errorf("%d requests for %s", n, path)
				}
			}
		})
	}
}

func TestForeignLayerIsRefused(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	var asked bool
	vendor := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer vendor.Close()
	src := registrytest.NewMemory()
	layer := src.Add("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", []byte("x"))
	layer.URLs = []string{vendor.URL}
	conf := src.AddJSON(t, ocispec.MediaTypeImageConfig, ocispec.Image{Platform: amd64})
	m := ocispec.Manifest{Versioned: versioned, MediaType: ocispec.MediaTypeImageManifest, Config: conf, Layers: []ocispec.Descriptor{layer}}
	d := src.AddJSON(t, m.MediaType, m)
	repo := connect(t, r.Ref(t, "win:1"), registry.Options{})
	_, err := registry.Copy(t.Context(), repo, src, d, registry.CopyOptions{Name: repo.Reference()})
	if err == nil || !strings.Contains(err.Error(), "foreign layer") || asked {
		t.Errorf("error %v, vendor asked: %t; want a refusal and no request", err, asked)
	}
}

func TestPushSurvives(t *testing.T) {
	long(t)
	t.Parallel()
	for name, faults := range map[string][]fault{
		"503 twice, everywhere":     {{Times: 2, Do: registrytest.Status(503)}},
		"429":                       {{Method: "POST", Times: 1, Do: registrytest.Busy("1")}},
		"503 for bodies":            {{Method: "PUT", Times: 3, Do: registrytest.Status(503)}},
		"reset in the body":         {{Method: "PUT", Path: "/uploads/", Times: 3, Do: registrytest.Reset(30_000)}},
		"reset, bytes kept":         {{Method: "PUT", Path: "/uploads/", Times: 3, Do: registrytest.ResetAfter(30_000)}},
		"reset before the manifest": {{Method: "PUT", Path: "/manifests/", Times: 2, Do: registrytest.Reset(0)}},
		"answers lost":              {{Method: "PUT", Times: 4, Do: registrytest.Swallow()}},
		"upload forgotten": {
			{Method: "PUT", Path: "/uploads/", Times: 1, Do: registrytest.Reset(10)},
			{Method: "GET", Path: "/uploads/", Times: 1, Do: registrytest.Status(404)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			ref := r.Ref(t, "app:1")
			src := registrytest.NewMemory()
			d := src.AddImage(t, 1, amd64, false, 200_000, 120_000)
			for _, f := range faults {
				r.Fault(f)
			}
			repo := connect(t, ref, registry.Options{})
			if _, err := registry.Copy(t.Context(), repo, src, d, registry.CopyOptions{Name: ref}); err != nil {
				t.Fatal(err)
			}
			dst, err := pull(t.Context(), repo, registry.CopyOptions{})
			if err != nil || dst.Len() != src.Len() {
				t.Errorf("pulled %d blobs, %v; want %d", dst.Len(), err, src.Len())
			}
		})
	}
}

func TestPushResumesAtTheRegistrysOffset(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	src := registrytest.NewMemory()
	d := src.AddImage(t, 1, amd64, false, 3<<20)
	var once sync.Once
	r.Fault(fault{Method: "PUT", Path: "/uploads/", Do: func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		do := func() { next.ServeHTTP(w, q) }
		if q.ContentLength > 2<<20 {
			once.Do(func() { do = func() { registrytest.ResetAfter(2<<20)(w, q, next) } })
		}
		do()
	}})
	repo := connect(t, ref, registry.Options{})
	if _, err := registry.Copy(t.Context(), repo, src, d, registry.CopyOptions{Name: ref, Concurrency: 1}); err != nil {
		t.Fatal(err)
	}
	patches := r.Requests("PATCH", "/uploads/")
	if len(patches) != 1 || patches[0].Length > 1<<20+10_000 {
		t.Errorf("resumed by %+v, want one PATCH of the last MiB", patches)
	}
	if _, err := pull(t.Context(), repo, registry.CopyOptions{}); err != nil {
		t.Error(err)
	}
}

func TestPushRefuses(t *testing.T) {
	long(t)
	t.Parallel()
	for name, test := range map[string]struct {
		fault fault
		want  string
	}{
		"503 for ever":        {fault{Do: registrytest.Status(503)}, "given up after 6 tries"},
		"denied":              {fault{Method: "POST", Do: registrytest.Status(403)}, "denied"},
		"silence":             {fault{Method: "PUT", Do: registrytest.Silence()}, "does not answer"},
		"full":                {fault{Method: "PUT", Do: registrytest.Status(507)}, "HTTP 507"},
		"upload to elsewhere": {fault{Method: "POST", Do: registrytest.Redirect(202, "http://10.0.0.1/x")}, "private"},
		"no place":            {fault{Method: "POST", Do: registrytest.Redirect(202, "")}, "no place"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			ref := r.Ref(t, "app:1")
			src := registrytest.NewMemory()
			d := src.AddImage(t, 1, amd64, false, 2000)
			r.Fault(test.fault)
			_, err := registry.Copy(t.Context(), connect(t, ref, registry.Options{Limits: limitsFor(test.want)}), src, d, registry.CopyOptions{Name: ref})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v: want one line with %q", err, test.want)
			}
		})
	}
}

func TestDeadHost(t *testing.T) {
	t.Parallel()
	dead := httptest.NewServer(nil)
	ref := registrytest.Ref(t, dead.Listener.Addr().String()+"/app:1")
	dead.Close()
	_, err := connect(t, ref, registry.Options{}).Resolve(t.Context(), ref)
	if err == nil || !contains(err.Error(), ref.String(), "connection refused", "is the registry running?") {
		t.Errorf("error %v: want name, cause and what to try", err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	put(t, ref, 1, 100_000)
	r.Fault(fault{Path: "/blobs/", Do: registrytest.Silence()})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	repo := connect(t, ref, registry.Options{Limits: web.Limits{Headers: time.Hour, GiveUp: time.Hour}}) // nothing else ends it
	if _, err := pull(ctx, repo, registry.CopyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled pull = %v", err)
	}
}
