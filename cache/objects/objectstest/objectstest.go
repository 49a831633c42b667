// Package objectstest is what the tests of the buckets of package objects share: a server to build a fake service on, a store on a bucket,
// and what every bucket must do with blobs.
package objectstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/image"
)

// A Server answers the requests of a fake service, one at a time. Its fields may change while no request is being answered.
type Server struct {
	*httptest.Server
	Requests []string                                          // method and path of each request
	Fault    func(w http.ResponseWriter, r *http.Request) bool // answers in the service's place, if it returns true; may be nil

	mu sync.Mutex // is held while a request is answered
}

// Serve starts a server, which lives as long as the test. answer gets the body of a request read.
func Serve(t testing.TB, answer func(w http.ResponseWriter, r *http.Request, body []byte)) *Server {
	t.Helper()
	s := &Server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.Requests = append(s.Requests, r.Method+" "+r.URL.Path)
		if err != nil || s.Fault != nil && s.Fault(w, r) {
			return
		}
		answer(w, r, body)
	}))
	t.Cleanup(s.Close)
	return s
}

// Store makes a store of a bucket.
func Store(t testing.TB, bucket objects.Bucket) *objects.Store {
	t.Helper()
	staging, err := image.OpenStaging(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := staging.Close(); err != nil {
			t.Error(err)
		}
	})
	return objects.New(bucket, staging)
}

// Blob describes data.
func Blob(data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// Fetch reads a blob from an offset on.
func Fetch(t testing.TB, s *objects.Store, d ocispec.Descriptor, offset int64) ([]byte, error) {
	t.Helper()
	r, err := s.Fetch(t.Context(), d, offset)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Wrong holds that content of these sizes that is not what it is put as is refused, that nobody finds it, and that the right one can be put
// afterwards.
func Wrong(t testing.TB, s *objects.Store, sizes ...int) {
	t.Helper()
	for _, n := range sizes {
		right, wrong := bytes.Repeat([]byte("y"), n), bytes.Repeat([]byte("z"), n)
		d := Blob(right)
		if _, err := s.Push(t.Context(), d, image.Bytes(wrong)); !errors.Is(err, image.ErrMismatch) {
			t.Errorf("%d wrong bytes: %v", n, err)
		}
		if there, err := s.Exists(t.Context(), d); there || err != nil {
			t.Errorf("%d wrong bytes are there: %v", n, err)
		}
		if _, err := s.Push(t.Context(), d, image.Bytes(right)); err != nil {
			t.Errorf("%d bytes after wrong ones: %v", n, err)
		}
		if got, err := Fetch(t, s, d, 0); err != nil || !bytes.Equal(got, right) {
			t.Errorf("%d bytes after wrong ones come back as %d, %v", n, len(got), err)
		}
	}
}

// Blobs holds that blobs of these sizes go, also when somebody else has sent them, and come, from any offset; and that one that nobody has
// sent is not there.
func Blobs(t testing.TB, s *objects.Store, sizes ...int) {
	t.Helper()
	for _, n := range sizes {
		data := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		d := Blob(data)
		if there, err := s.Exists(t.Context(), d); there || err != nil {
			t.Fatalf("%d bytes are there before: %v, %v", n, there, err)
		}
		for range 2 {
			if _, err := s.Push(t.Context(), d, image.Bytes(data)); err != nil {
				t.Fatal(err)
			}
		}
		if there, err := s.Exists(t.Context(), d); !there || err != nil {
			t.Errorf("%d bytes are not there: %v", n, err)
		}
		for _, at := range []int{0, n / 2, n} {
			if got, err := Fetch(t, s, d, int64(at)); err != nil || !bytes.Equal(got, data[at:]) {
				t.Errorf("%d bytes from %d on: %d, %v", n, at, len(got), err)
			}
		}
	}
	if _, err := Fetch(t, s, Blob([]byte("nobody")), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}
