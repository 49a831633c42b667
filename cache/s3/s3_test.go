package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/cache/objects/objectstest"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/sigv4"
	"github.com/forge-build/forge/internal/web"
)

func newStore(t *testing.T, f *fake, change func(o *Options)) (*objects.Store, *Bucket) {
	t.Helper()
	o := Options{
		Bucket: "cache", Region: "eu-test-1", Endpoint: f.URL, PathStyle: true, Key: f.key, Prefix: "pre fix/",
		Limits: web.Limits{Backoff: time.Millisecond, Tries: 3},
	}
	if change != nil {
		change(&o)
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	b.onePut = smallPut
	return objectstest.Store(t, b), b
}

const smallPut = 100_000 // so that tests need not move much

// TestBlobs holds that blobs of all sizes go and come, from any offset, known beforehand or not.
func TestBlobs(t *testing.T) {
	f := newFake(t)
	s, _ := newStore(t, f, nil)
	objectstest.Blobs(t, s, 0, 1, 1000, smallPut, smallPut+5)
	data := []byte("of unknown digest")
	d, err := s.Push(t.Context(), ocispec.Descriptor{}, image.Bytes(data))
	if err != nil || d.Digest != digest.FromBytes(data) || d.Size != int64(len(data)) {
		t.Errorf("%v, %v", d, err)
	}
	if got, err := objectstest.Fetch(t, s, d, 0); err != nil || string(got) != string(data) {
		t.Errorf("%q, %v", got, err)
	}
	objectstest.Wrong(t, s, 10, smallPut, smallPut+10)
	if len(f.uploads) > 0 {
		t.Errorf("%d uploads were not completed", len(f.uploads))
	}
}

// TestNames holds that names can be given to something else, be listed, and that what others keep there is told from it.
func TestNames(t *testing.T) {
	f := newFake(t)
	s, b := newStore(t, f, nil)
	for _, text := range []string{"first", "second"} {
		raw, d, err := image.NewIndex(nil, map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range []string{"a", "b", "c", "d", "e"} {
			if err := s.PushManifest(t.Context(), image.Reference{Tag: tag}, d, raw); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Resolve(t.Context(), image.Reference{Tag: "c"})
		if err != nil || got.Digest != d.Digest || got.MediaType != d.MediaType {
			t.Errorf("%v, %v", got, err)
		}
		f.Requests = nil
		if back, err := objectstest.Fetch(t, s, got, 0); err != nil || !bytes.Equal(back, raw) || len(f.Requests) > 0 {
			t.Errorf("%q, %v, by %v: what was resolved is known", back, err, f.Requests)
		}
	}
	tags, err := b.Tags(t.Context())
	if err != nil || !slices.Equal(tags, []string{"a", "b", "c", "d", "e"}) {
		t.Errorf("%v, %v", tags, err)
	}
	if _, err := s.Resolve(t.Context(), image.Reference{Tag: "z"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that nobody gave: %v", err)
	}
	f.objects[b.named("buildkit")] = object{[]byte(`{"layers":[],"records":[]}`), time.Now()}
	if d, err := s.Resolve(t.Context(), image.Reference{Tag: "buildkit"}); err != nil || image.IsDocument(d.MediaType) {
		t.Errorf("another builder's: %v, %v", d, err)
	}
}

// TestTagsEndless holds that a bucket that always has one more page is not listed for ever.
func TestTagsEndless(t *testing.T) {
	f := newFake(t)
	_, b := newStore(t, f, nil)
	n := 0
	f.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
		n++ // it ends all the same, for the sake of the test
		fmt.Fprintf(w, "<ListBucketResult><IsTruncated>%t</IsTruncated><NextContinuationToken>%d</NextContinuationToken></ListBucketResult>", n < 2*maxPages, n%2)
		return true
	}
	if tags, err := b.Tags(t.Context()); err == nil || !strings.Contains(err.Error(), "pages") {
		t.Errorf("%d tags after %d pages, %v", len(tags), n, err)
	}
}

// TestTagsCut holds that a list that cannot be read to its end is an error, and not a shorter list.
func TestTagsCut(t *testing.T) {
	f := newFake(t)
	_, b := newStore(t, f, nil)
	for _, test := range []struct{ end, want string }{
		{"", "more after"},
		{"<NextContinuationToken></NextContinuationToken>", "more after"},
		{"<NextContinuationToken>t</NextContinuationToken>", "more after"},
		{"<NextContinuationToken>%d</NextContinuationToken>", "more than 100000 names"},
	} {
		n := 0
		f.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
			n++
			fmt.Fprint(w, "<ListBucketResult><IsTruncated>true</IsTruncated>")
			for i := range 20_000 {
				fmt.Fprintf(w, "<Contents><Key>%s</Key></Contents>", b.named(fmt.Sprint(n, "-", i)))
			}
			fmt.Fprint(w, strings.ReplaceAll(test.end, "%d", fmt.Sprint(n)), "</ListBucketResult>")
			return true
		}
		if tags, err := b.Tags(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %d tags, %v; want %q", test.end, len(tags), err, test.want)
		}
	}
}

// TestTouch holds that what is needed is made new before rules of the bucket take it away, and not each time.
func TestTouch(t *testing.T) {
	f := newFake(t)
	s, b := newStore(t, f, func(o *Options) { o.Touch = time.Hour })
	data := []byte("old")
	d := objectstest.Blob(data)
	key := b.blob(d)
	for want, age := range []time.Duration{1: 30 * time.Minute, 2: 2 * time.Hour} {
		if want == 0 {
			continue
		}
		f.objects[key] = object{data, time.Now().Add(-age)}
		f.Requests = nil
		if there, err := s.Exists(t.Context(), d); !there || err != nil || len(f.Requests) != want {
			t.Errorf("%s old: %v, %v, %v; want %d requests", age, there, err, f.Requests, want)
		}
	}
	if time.Since(f.objects[key].when) > time.Minute {
		t.Error("it is as old as before")
	}
}

// TestFaults holds what is tried again, and what is said of what is not.
func TestFaults(t *testing.T) {
	f := newFake(t)
	s, b := newStore(t, f, nil)
	data := bytes.Repeat([]byte("x"), 300_000)
	d := objectstest.Blob(data)
	if _, err := s.Push(t.Context(), d, image.Bytes(data)); err != nil {
		t.Fatal(err)
	}
	n := 0
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if n++; n > 2 {
			return false
		}
		if n == 1 {
			f.refuse(w, http.StatusServiceUnavailable, "SlowDown")
			return true
		}
		w.Header().Set("Content-Length", "300000")
		_, _ = w.Write(data[:100_000])
		return true // and the connection breaks
	}
	if got, err := objectstest.Fetch(t, s, d, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	f.Fault = nil
	other, _ := newStore(t, f, func(o *Options) { o.Key.Secret = "another" })
	if _, err := objectstest.Fetch(t, other, d, 0); err == nil || !strings.Contains(err.Error(), "403") || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
		t.Errorf("a wrong key: %v", err)
	}
	big := bytes.Repeat([]byte("y"), smallPut+1)
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("partNumber") != "2" {
			return false
		}
		f.refuse(w, http.StatusForbidden, "AccessDenied")
		return true
	}
	if _, err := s.Push(t.Context(), objectstest.Blob(big), image.Bytes(big)); err == nil || len(f.uploads) > 0 {
		t.Errorf("a part that is refused: %v, %d uploads left", err, len(f.uploads))
	}
	if !strings.HasPrefix(b.Name(), "s3://cache/") {
		t.Error(b.Name())
	}
}

// TestParseOptions holds docker's attributes, and the environment for what they leave open.
func TestParseOptions(t *testing.T) {
	env := map[string]string{
		"AWS_BUCKET": "eb", "AWS_REGION": "er", "AWS_ACCESS_KEY_ID": "ei", "AWS_SECRET_ACCESS_KEY": "es", "AWS_SESSION_TOKEN": "et",
		"AWS_ENDPOINT_URL": "https://ee",
	}
	o, err := ParseOptions(nil, func(name string) string { return env[name] })
	if err != nil || o.Bucket != "eb" || o.Region != "er" || o.Key != (sigv4.Key{ID: "ei", Secret: "es", Session: "et"}) || o.Endpoint != "https://ee" {
		t.Errorf("%+v, %v", o, err)
	}
	o, err = ParseOptions(map[string]string{
		"bucket": "b", "region": "r", "access_key_id": "i", "secret_access_key": "s", "touch_refresh": "2h", "use_path_style": "true",
		"prefix": "p/", "upload_parallelism": "2",
	}, func(name string) string { return env[name] })
	if err != nil || o.Bucket != "b" || o.Key != (sigv4.Key{ID: "i", Secret: "s"}) || o.Touch != 2*time.Hour || !o.PathStyle {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range []map[string]string{{"use_path_style": "x"}, {"touch_refresh": "x"}, {"upload_parallelism": "0"}} {
		if _, err := ParseOptions(bad, func(string) string { return "" }); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	for _, o := range []Options{{}, {Bucket: "b", Region: "r"}, {Bucket: "b", Region: "r", Key: sigv4.Key{ID: "i", Secret: "s"}, Endpoint: "ftp://x"}} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v was opened", o)
		}
	}
	b, err := Open(Options{Bucket: "b", Region: "r", Key: sigv4.Key{ID: "i", Secret: "s"}})
	if err != nil || b.base.String() != "https://b.s3.r.amazonaws.com/" {
		t.Errorf("%v, %v", b, err)
	}
}
