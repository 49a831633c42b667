package registry_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// TestFetchRange reads a piece of a blob from registries that give it, cut it off, or give all that there is, or something else.
func TestFetchRange(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]registrytest.Do{
		"as asked": nil, "cut off": {registrytest.Cut(100)}, "all of it": {registrytest.IgnoreRange()}, "another range": {registrytest.FalseRange()},
		"another, then cut off": {registrytest.FalseRange(), registrytest.Cut(70_000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			ref := r.Ref(t, "app:1")
			src, d := put(t, ref, 1, 300_000)
			img, err := image.Read(t.Context(), src, d, &amd64)
			if err != nil {
				t.Fatal(err)
			}
			blob := img.Manifest.Layers[0]
			want, err := image.ReadSmall(t.Context(), src, blob)
			if err != nil {
				t.Fatal(err)
			}
			r.Reset()
			for _, do := range faults {
				r.Fault(fault{Method: "GET", Path: "/blobs/", Times: 1, Do: do})
			}
			repo := connect(t, ref, registry.Options{Limits: quick})
			for _, at := range [][2]int64{{1000, 81_000}, {0, 500}, {blob.Size - 10, blob.Size}} {
				body, err := repo.FetchRange(t.Context(), blob, at[0], at[1])
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(body)
				if err != nil || !bytes.Equal(got, want[at[0]:at[1]]) {
					t.Errorf("bytes %d to %d: %d bytes, %v", at[0], at[1], len(got), err)
				}
				if err := body.Close(); err != nil {
					t.Error(err)
				}
			}
			if asked := r.Requests("GET", "/blobs/"); len(faults) == 0 && (len(asked) != 3 || asked[0].Range != "bytes=1000-80999" || asked[1].Range != "bytes=0-499") {
				t.Errorf("asked for %+v", asked)
			}
			for _, at := range [][2]int64{{-1, 5}, {5, 5}, {6, 5}, {0, blob.Size + 1}} {
				if _, err := repo.FetchRange(t.Context(), blob, at[0], at[1]); err == nil {
					t.Errorf("bytes %d to %d are given", at[0], at[1])
				}
			}
		})
	}
}

// TestFetchRangeOfNone: a registry that gives no pieces of blobs is asked for the whole for what is near its beginning, and for nothing else. A
// download is taken up again all the same.
func TestFetchRangeOfNone(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]registrytest.Do{
		"all of it": registrytest.IgnoreRange(), "another range": registrytest.FalseRange(), "denied": registrytest.Status(http.StatusRequestedRangeNotSatisfiable),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t)
			ref := r.Ref(t, "app:1")
			src, d := put(t, ref, 1, 3<<20)
			img, err := image.Read(t.Context(), src, d, &amd64)
			if err != nil {
				t.Fatal(err)
			}
			blob := img.Manifest.Layers[0]
			r.Fault(fault{Method: "GET", Path: "/blobs/", Do: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.Header.Get("Range") == "" {
					next.ServeHTTP(w, r)
					return
				}
				do(w, r, next)
			}})
			repo := connect(t, ref, registry.Options{Limits: quick})
			body, err := repo.FetchRange(t.Context(), blob, 2<<20, 2<<20+1000)
			if err == nil {
				err = body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "the registry gives no pieces of blobs") {
				t.Errorf("a piece: %v", err)
			}
			for from, open := range map[int64]func(from int64) (io.ReadCloser, error){
				1000:    func(from int64) (io.ReadCloser, error) { return repo.FetchRange(t.Context(), blob, from, 2<<20) },
				2 << 20: func(from int64) (io.ReadCloser, error) { return repo.Fetch(t.Context(), blob, from) },
			} {
				body, err := open(from)
				if err != nil {
					t.Errorf("from %d: %v", from, err)
					continue
				}
				if _, err := io.CopyN(io.Discard, body, 1<<20); err != nil {
					t.Errorf("from %d: %v", from, err)
				}
				if err := body.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
