package gha

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/cache/objects/objectstest"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

func newStore(t *testing.T, f *fake, change func(o *Options)) *objects.Store {
	t.Helper()
	o := Options{URL: f.URL + "/base", Token: "token", Version: 2, Limits: web.Limits{Backoff: time.Millisecond, Tries: 3}}
	if change != nil {
		change(&o)
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	b.part = 1000 // so that tests need not move much
	return objectstest.Store(t, b)
}

func manifest(t *testing.T, text string) ([]byte, ocispec.Descriptor) {
	t.Helper()
	raw, d, err := image.NewIndex(nil, map[string]string{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	return raw, d
}

func versions(t *testing.T, do func(t *testing.T, f *fake, version func(o *Options))) {
	t.Helper()
	for v := 1; v <= 2; v++ {
		t.Run(fmt.Sprint("v", v), func(t *testing.T) { do(t, newFake(t), func(o *Options) { o.Version = v }) })
	}
}

// TestBlobs holds that blobs of all sizes go and come, from any offset, and are kept once.
func TestBlobs(t *testing.T) {
	versions(t, func(t *testing.T, f *fake, version func(o *Options)) {
		s := newStore(t, f, version)
		objectstest.Blobs(t, s, 1, 999, 1000, 1001, 54_321)
		if len(f.entries) != 5 {
			t.Errorf("%d entries", len(f.entries))
		}
		objectstest.Wrong(t, s, 10, 1000, 5000)
	})
}

// TestNames holds that a name stands for what it was given last, that no name is another's beginning, and that any can be one.
func TestNames(t *testing.T) {
	versions(t, func(t *testing.T, f *fake, version func(o *Options)) {
		s := newStore(t, f, version)
		if _, err := s.Resolve(t.Context(), image.Reference{Tag: "tag"}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a name that nobody gave: %v", err)
		}
		for i := range 12 { // beyond #9
			raw, d := manifest(t, fmt.Sprint(i))
			if err := s.PushManifest(t.Context(), image.Reference{Tag: "tag"}, d, raw); err != nil {
				t.Fatal(err)
			}
			got, err := s.Resolve(t.Context(), image.Reference{Tag: "tag"})
			if err != nil || got.Digest != d.Digest {
				t.Errorf("%d: %v, %v", i, got, err)
			}
		}
		for _, odd := range []string{"feature/a, b", "feature/a, c", strings.Repeat("long", 100)} {
			if _, err := s.Resolve(t.Context(), image.Reference{Tag: odd}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", odd, err)
			}
			raw, d := manifest(t, odd)
			if err := s.PushManifest(t.Context(), image.Reference{Tag: odd}, d, raw); err != nil {
				t.Error(err)
			}
		}
		for _, tag := range []string{"ta", "tag#1", "tag#"} {
			if _, err := s.Resolve(t.Context(), image.Reference{Tag: tag}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", tag, err)
			}
		}
	})
}

// TestWriters holds that many who write one name at once are all done, and that one who died in the middle stops nobody.
func TestWriters(t *testing.T) {
	versions(t, func(t *testing.T, f *fake, version func(o *Options)) {
		s := newStore(t, f, version)
		raw, d := manifest(t, "first")
		if err := s.PushManifest(t.Context(), image.Reference{Tag: "tag"}, d, raw); err != nil {
			t.Fatal(err)
		}
		last := f.entries[len(f.entries)-1]
		f.entries = append(f.entries, &stored{key: strings.TrimSuffix(last.key, "1") + "2", version: last.version}) // begun, never done
		var wg sync.WaitGroup
		for i := range 4 {
			raw, d := manifest(t, fmt.Sprint(i))
			wg.Go(func() {
				if err := s.PushManifest(t.Context(), image.Reference{Tag: "tag"}, d, raw); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		got, err := s.Resolve(t.Context(), image.Reference{Tag: "tag"})
		if err != nil || got.Digest == d.Digest {
			t.Errorf("the name stands for %v, %v", got, err)
		}
	})
}

// TestBegun holds that a blob that somebody else has begun counts as stored once it is there, and that it is stored under another key where
// whoever began it has died.
func TestBegun(t *testing.T) {
	versions(t, func(t *testing.T, f *fake, options func(o *Options)) {
		s := newStore(t, f, options)
		data := []byte("layer")
		d := objectstest.Blob(data)
		f.begin(blobKey(d), version())
		looks := 0
		f.Fault = func(http.ResponseWriter, *http.Request) bool {
			if looks++; looks == 4 { // the other one is done
				f.entries[0].data, f.entries[0].done = data, true
			}
			return false
		}
		if _, err := s.Push(t.Context(), d, image.Bytes(data)); err != nil {
			t.Errorf("begun, and done soon after: %v", err)
		}
		if got, err := objectstest.Fetch(t, s, d, 0); err != nil || !bytes.Equal(got, data) || len(f.entries) != 1 {
			t.Errorf("%q of %d entries, %v", got, len(f.entries), err)
		}
		f.Fault = nil

		data = []byte("another layer")
		d = objectstest.Blob(data)
		f.begin(blobKey(d), version())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := s.Push(t.Context(), d, image.Bytes(data)); err != nil {
					t.Errorf("begun, and never done: %v", err)
				}
			})
		}
		wg.Wait()
		if got, err := objectstest.Fetch(t, s, d, 0); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q, %v", got, err)
		}
		if there, err := s.Exists(t.Context(), d); !there || err != nil {
			t.Errorf("it is there: %t, %v", there, err)
		}
		d = objectstest.Blob([]byte("third"))
		for _, key := range []string{"", "#1", "#2"} {
			f.begin(blobKey(d)+key, version())
		}
		if _, err := s.Push(t.Context(), d, image.Bytes([]byte("third"))); !errors.Is(err, errExists) {
			t.Errorf("begun again and again: %v", err)
		}
	})
}

// TestFaults holds what is tried again, what is said of what is not, and that a service cannot send forge where it may not.
func TestFaults(t *testing.T) {
	versions(t, func(t *testing.T, f *fake, version func(o *Options)) {
		s := newStore(t, f, version)
		data := bytes.Repeat([]byte("x"), 5000)
		d := objectstest.Blob(data)
		n := 0
		f.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
			if n++; n%3 == 0 {
				w.WriteHeader(http.StatusTooManyRequests)
			}
			return n%3 == 0
		}
		if _, err := s.Push(t.Context(), d, image.Bytes(data)); err != nil {
			t.Fatal(err)
		}
		if got, err := objectstest.Fetch(t, s, d, 0); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/storage/") {
				return false
			}
			w.Header().Set("Content-Length", "5000") // and the connection breaks
			_, _ = w.Write(data[:100])
			f.Fault = nil
			return true
		}
		if got, err := objectstest.Fetch(t, s, d, 0); err != nil || !bytes.Equal(got, data) {
			t.Errorf("broken off: %d bytes, %v", len(got), err)
		}
		f.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprintf(w, `{"ok":true,"cacheKey":%q,"matched_key":%q,"archiveLocation":"http://169.254.169.254/x","signed_download_url":"http://169.254.169.254/x"}`,
				blobKey(d), blobKey(d))
			return true
		}
		if _, err := objectstest.Fetch(t, s, d, 0); !errors.Is(err, web.ErrRefused) {
			t.Errorf("an address that the service may not name: %v", err)
		}
		f.Fault = nil
		stranger := newStore(t, f, func(o *Options) { version(o); o.Token = "another" })
		if _, err := objectstest.Fetch(t, stranger, d, 0); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("a wrong token: %v", err)
		}
	})
}

// TestParseOptions holds docker's attributes and a runner's variables.
func TestParseOptions(t *testing.T) {
	for _, test := range []struct {
		attrs, env map[string]string
		want       string
	}{
		{nil, map[string]string{"ACTIONS_CACHE_URL": "http://one", "ACTIONS_RUNTIME_TOKEN": "t"}, "1 http://one t"},
		{nil, map[string]string{"ACTIONS_RESULTS_URL": "http://two", "ACTIONS_RUNTIME_TOKEN": "t"}, "2 http://two t"},
		{
			nil,
			map[string]string{"ACTIONS_CACHE_URL": "http://one", "ACTIONS_RESULTS_URL": "http://two", "ACTIONS_CACHE_SERVICE_V2": "True"},
			"2 http://two ",
		},
		{map[string]string{"version": "1"}, map[string]string{"ACTIONS_CACHE_URL": "http://one", "ACTIONS_CACHE_SERVICE_V2": "1"}, "1 http://one "},
		{map[string]string{"url_v2": "http://x", "token": "y"}, map[string]string{"ACTIONS_CACHE_URL": "http://one"}, "2 http://x y"},
		{map[string]string{"version": "3"}, nil, "version=3: must be 1 or 2"},
		{map[string]string{"timeout": "soon"}, nil, "timeout=soon: must be a time, such as 10m"},
	} {
		o, err := ParseOptions(test.attrs, func(name string) string { return test.env[name] })
		got := fmt.Sprint(o.Version, " ", o.URL, " ", o.Token)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%v, %v: %s, want %s", test.attrs, test.env, got, test.want)
		}
	}
	if _, err := Open(Options{}); err == nil || !strings.Contains(err.Error(), "ACTIONS_RUNTIME_TOKEN") {
		t.Errorf("without a service: %v", err)
	}
}
