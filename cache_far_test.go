package forge_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/registry/registrytest"
)

// sharing is a build file and a registry that machines share.
type sharing struct {
	t   *testing.T
	r   *registrytest.Registry
	dir string
}

func newSharing(t *testing.T) *sharing {
	t.Helper()
	s := &sharing{t, registrytest.New(t), t.TempDir()}
	write(t, s.dir+"/Dockerfile", "FROM scratch AS build\nCOPY a /a\nCOPY b /b\nFROM scratch\nCOPY --from=build /a /x\nCOPY c /c\n")
	for _, name := range []string{"a", "b", "c"} {
		write(t, filepath.Join(s.dir, name), strings.Repeat(name, 2000))
	}
	return s
}

// build builds on a machine that has never built anything, and returns the image's ID and what was told.
func (s *sharing) build(change func(*forge.BuildOptions)) (id, told string, r *forge.BuildResult) {
	s.t.Helper()
	h, err := forge.Open(s.t.Context(), forge.Options{Dir: s.t.TempDir(), Snapshotter: "copy"})
	if err != nil {
		s.t.Fatal(err)
	}
	defer h.Close() //nolint:errcheck
	var mu sync.Mutex
	var lines []string
	o := forge.BuildOptions{SourceOptions: forge.SourceOptions{Context: s.dir}}
	o.Cache = s.r.Host() + "/app:main"
	o.Events = func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == event.Warning || e.Kind == event.Note {
			lines = append(lines, string(e.Kind)+": "+e.Text)
		}
	}
	if change != nil {
		change(&o)
	}
	r, err = h.Build(s.t.Context(), o)
	if r != nil && r.Stopped != nil {
		defer r.Stopped.Close() //nolint:errcheck
	}
	if err != nil {
		s.t.Fatalf("%v\n%s", err, strings.Join(lines, "\n"))
	}
	mu.Lock()
	defer mu.Unlock()
	return r.ID().String(), strings.Join(lines, "\n"), r
}

func pushing(s *sharing) func(*forge.BuildOptions) {
	return func(o *forge.BuildOptions) {
		o.Tags = []string{s.r.Host() + "/app:1"}
		o.Outputs = []forge.Output{{Type: "image", Attrs: map[string]string{"push": "true"}}}
	}
}

// TestSharedCacheFaults: whatever a registry does, the build succeeds, and says what it did without.
func TestSharedCacheFaults(t *testing.T) {
	t.Parallel()
	const index = "/manifests/forge-cache-v1-"
	for _, test := range []struct {
		name   string
		fault  registrytest.Fault
		push   bool
		reused int    // steps
		told   string // in what is told
	}{
		{name: "all is well", reused: 4},
		{name: "all is well, and it is pushed", push: true, reused: 4},
		{name: "busy", fault: registrytest.Fault{Path: index, Do: registrytest.Busy("30")}, told: "the build goes on without it"},
		{name: "busy once", fault: registrytest.Fault{Path: index, Times: 1, Do: registrytest.Busy("0")}, reused: 4},
		{name: "in trouble", fault: registrytest.Fault{Path: index, Do: registrytest.Status(503)}, told: "the build goes on without it"},
		{name: "silent", fault: registrytest.Fault{Path: index, Do: registrytest.Silence()}, told: "no answer within 2s"},
		{name: "denied", fault: registrytest.Fault{Path: index, Do: registrytest.Status(403)}, told: "denied"},
		{name: "nonsense", fault: registrytest.Fault{Path: index, Method: "GET", Do: registrytest.Answer("application/vnd.oci.image.index.v1+json", []byte("{}"))}, told: "the build goes on without it"},
		{name: "only read", fault: registrytest.Fault{Method: "POST", Do: registrytest.Status(403)}, reused: 4},
		{name: "layers are gone", fault: registrytest.Fault{Method: "GET", Path: "/blobs/", Do: registrytest.Status(404)}, told: "is gone; its step is done again"},
		{name: "layers are something else", fault: registrytest.Fault{Method: "GET", Path: "/blobs/", Do: registrytest.Flip()}, told: "its step is done again"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSharing(t)
			s.build(nil)
			s.r.Reset()
			if test.fault.Do != nil {
				s.r.Fault(test.fault)
			}
			change := pushing(s)
			if !test.push {
				change = nil
			}
			_, told, r := s.build(change)
			if r.Reused < test.reused || test.reused == 0 && r.Reused == 4 && !strings.Contains(test.told, "done again") {
				t.Errorf("%d steps are reused, want %d", r.Reused, test.reused)
			}
			if !strings.Contains(told, test.told) || test.told == "" && strings.Contains(told, "warning") {
				t.Errorf("told %q, want %q", told, test.told)
			}
		})
	}
}

// TestSharedCacheLostAt: a build that is to stop at a step makes layers again that the cache has lost, whether a step before needs them or
// who stands there.
func TestSharedCacheLostAt(t *testing.T) {
	t.Parallel()
	if err := forge.CheckShell(""); err != nil {
		t.Skip(err)
	}
	for _, test := range []struct{ at, changed, place string }{
		{at: "before::6", place: "before"},
		{at: "after::6", place: "after"},
		{at: "after::6", changed: "c", place: "after"},
	} {
		t.Run(test.at+" "+test.changed, func(t *testing.T) {
			t.Parallel()
			s := newSharing(t)
			s.build(nil)
			if test.changed != "" {
				write(t, filepath.Join(s.dir, test.changed), "changed")
			}
			s.r.Fault(registrytest.Fault{Method: "GET", Path: "/blobs/", Do: registrytest.Status(404)})
			_, told, r := s.build(func(o *forge.BuildOptions) { o.At = test.at })
			if r.Stopped == nil || r.Stopped.Place != test.place {
				t.Errorf("the build stops at %+v, want %s", r.Stopped, test.at)
			}
			if !strings.Contains(told, "is gone; its step is done again") {
				t.Errorf("told %q", told)
			}
		})
	}
}

// TestSharedCacheLostPlan: a plan says what is in the cache also if that has lost a layer which a step reads.
func TestSharedCacheLostPlan(t *testing.T) {
	t.Parallel()
	s := newSharing(t)
	s.build(nil)
	write(t, s.dir+"/Dockerfile", "FROM scratch AS build\nCOPY a /a\nCOPY b /b\nFROM scratch\nCOPY --from=build /b /x\n")
	s.r.Fault(registrytest.Fault{Method: "GET", Path: "/blobs/", Do: registrytest.Status(404)})
	h, err := forge.Open(t.Context(), forge.Options{Dir: t.TempDir(), Snapshotter: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close() //nolint:errcheck
	o := forge.BuildOptions{SourceOptions: forge.SourceOptions{Context: s.dir}}
	o.Cache = s.r.Host() + "/app:main"
	previews, err := h.Plan(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// The two layers of the stage are fetched side by side, and either is found to be lost first.
	if got := previews[0].Cached; len(got) != 3 || got[0] && got[1] || got[2] {
		t.Errorf("in the cache: %v", got)
	}
}

// TestSharedCacheWriteFaults: whatever a registry does when a cache is written, the build succeeds, and the next one goes on with what is
// there.
func TestSharedCacheWriteFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		fault  registrytest.Fault
		told   string // in what is told
		reused int    // steps of the next machine
	}{
		{name: "no repository", fault: registrytest.Fault{Method: "POST", Do: registrytest.Refuse(404, "NAME_UNKNOWN")}, told: "create the repository first"},
		{name: "denied", fault: registrytest.Fault{Method: "POST", Do: registrytest.Status(401)}, told: "is only read"},
		{name: "busy once", fault: registrytest.Fault{Method: "PUT", Path: "/manifests/", Times: 1, Do: registrytest.Busy("0")}, reused: 4},
		{name: "in trouble", fault: registrytest.Fault{Method: "PUT", Path: "/manifests/", Do: registrytest.Status(503)}, told: "nothing is kept"},
		{name: "types are refused", fault: registrytest.Fault{Method: "PUT", Path: "/manifests/sha256:", Times: 1, Do: registrytest.Refuse(400, "MANIFEST_INVALID")}, reused: 4},
		{name: "a segment is lost", fault: registrytest.Fault{Method: "PUT", Path: "/manifests/forge-cache-v1-", Times: 1, Do: registrytest.Refuse(404, "MANIFEST_BLOB_UNKNOWN")}, told: "nothing is kept"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSharing(t)
			s.r.Fault(test.fault)
			_, told, _ := s.build(nil)
			if !strings.Contains(told, test.told) || test.told == "" && strings.Contains(told, "warning") {
				t.Errorf("told %q, want %q", told, test.told)
			}
			s.r.Reset()
			if _, _, r := s.build(nil); r.Reused != test.reused {
				t.Errorf("%d steps are reused by the next machine, want %d", r.Reused, test.reused)
			}
			if _, told, r := s.build(nil); r.Reused != 4 {
				t.Errorf("%d steps are reused in the end, want 4; told %q", r.Reused, told)
			}
		})
	}
}

// TestSharedCachePublic: where a registry asks those who write for a password, and lets everybody read, a cache that keeps layers of build
// stages is warned of, once a day.
func TestSharedCachePublic(t *testing.T) {
	t.Parallel()
	asks := func(reading bool) registrytest.Do {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Get("Authorization") == "" && (reading || r.Method != "GET" && r.Method != "HEAD") {
				w.Header().Set("WWW-Authenticate", "Basic realm=\"test\"")
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		}
	}
	// One whose tokens are for pulling or pushing, and who gives strangers none to push with.
	tokens := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		_, _, known := r.BasicAuth()
		have := r.Header.Get("Authorization")
		reads := r.Method == "GET" || r.Method == "HEAD"
		switch {
		case r.URL.Path == "/token" && !known && strings.Contains(r.URL.Query().Get("scope"), "push"):
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/token" && known:
			_, _ = w.Write([]byte(`{"token":"full"}`))
		case r.URL.Path == "/token":
			_, _ = w.Write([]byte(`{"token":"read"}`))
		case have == "Bearer full", have == "Bearer read" && reads:
			next.ServeHTTP(w, r)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	for _, test := range []struct {
		name    string
		fault   registrytest.Fault
		text    string // of the build file
		warning bool
	}{
		{name: "everybody reads", fault: registrytest.Fault{Do: asks(false)}, text: "FROM scratch AS build\nCOPY a /a\nFROM scratch\nCOPY b /b\nCOPY --from=build /a /x\n", warning: true},
		{name: "everybody gets a token to read", fault: registrytest.Fault{Do: tokens}, text: "FROM scratch AS build\nCOPY a /a\nFROM scratch\nCOPY --from=build /a /x\n", warning: true},
		{name: "nothing but the image", fault: registrytest.Fault{Do: asks(false)}, text: "FROM scratch\nCOPY a /a\n"},
		{name: "a private one", fault: registrytest.Fault{Do: asks(true)}, text: "FROM scratch AS build\nCOPY a /a\nFROM scratch\nCOPY --from=build /a /x\n"},
		{name: "an open registry", text: "FROM scratch AS build\nCOPY a /a\nFROM scratch\nCOPY --from=build /a /x\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSharing(t)
			write(t, s.dir+"/Dockerfile", test.text)
			if test.fault.Do != nil {
				s.r.Fault(test.fault)
			}
			change := func(o *forge.BuildOptions) {
				o.Credentials = map[string]forge.Credential{s.r.Host(): {Username: "me", Password: "secret"}}
			}
			_, told, _ := s.build(change)
			if strings.Contains(told, "everybody may read") != test.warning || strings.Contains(told, "only read") {
				t.Errorf("told %q, want a warning: %t", told, test.warning)
			}
		})
	}
}

// TestSharedCacheCollected: the registry has collected the layers that the cache names, and the image is pushed whole.
func TestSharedCacheCollected(t *testing.T) {
	t.Parallel()
	s := newSharing(t)
	s.build(nil)
	for _, method := range []string{"GET", "HEAD"} {
		s.r.Fault(registrytest.Fault{Method: method, Path: "/blobs/sha256:", Do: registrytest.Status(404)})
	}
	s.r.Fault(registrytest.Fault{Method: "PUT", Path: "/manifests/1", Times: 1, Do: registrytest.Refuse(404, "MANIFEST_BLOB_UNKNOWN")})
	_, told, r := s.build(pushing(s))
	if !strings.Contains(told, "its step is done again") {
		t.Errorf("told %q", told)
	}
	if len(r.Pushed) != 1 {
		t.Fatalf("pushed %v", r.Pushed)
	}
	s.r.Reset()
	if _, err := forge.Copy(t.Context(), "oci:"+t.TempDir(), s.r.Host()+"/app:1", forge.CopyOptions{}); err != nil {
		t.Errorf("what was pushed is not whole: %v", err)
	}
	// What was made again is known to the next machine.
	if _, told, r := s.build(nil); r.Reused != 4 {
		t.Errorf("%d steps are reused, want 4; told %q", r.Reused, told)
	}
}

// TestSharedCacheSameID: an image that another machine has made has its ID.
func TestSharedCacheSameID(t *testing.T) {
	t.Parallel()
	s := newSharing(t)
	first, _, _ := s.build(nil)
	if second, _, r := s.build(nil); second != first || r.Reused != 4 {
		t.Errorf("the second machine has %s of %d steps, want %s of 4", second, r.Reused, first)
	}
}

// TestPullCacheUnkept: answers that cannot be written down have not been pulled.
func TestPullCacheUnkept(t *testing.T) {
	t.Parallel()
	s, dir := newSharing(t), t.TempDir()
	s.build(nil)
	h, err := forge.Open(t.Context(), forge.Options{Dir: dir, Snapshotter: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close() //nolint:errcheck
	pull := func() (int, error) {
		return h.PullCache(t.Context(), s.r.Host()+"/app:main", forge.SharedCacheOptions{})
	}
	if n, err := pull(); n == 0 || err != nil {
		t.Fatalf("%d answers, %v", n, err)
	}
	for _, store := range []string{"cache/trees", "cache"} {
		path := filepath.Join(dir, store)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		write(t, path, "") // where nothing can be written
		if n, err := pull(); err == nil {
			t.Errorf("without %s: %d answers were pulled", store, n)
		}
	}
}
