package source

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forge-build/forge/cache"
)

// TestSecretAddresses holds that what one login, or one value of the query that is not shown, was given is not taken for what another is
// given. The server says of whatever has a version that it has not changed, as servers do that give all of them the same time.
func TestSecretAddresses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"1"`)
		user, _, _ := r.BasicAuth()
		fmt.Fprintf(w, "%s %s", user, r.URL.RawQuery)
	}))
	defer server.Close()
	_, layout := testStore(t)
	known, err := cache.OpenStore[Download](filepath.Join(t.TempDir(), "downloads"))
	must(t, err)
	downloads := Downloads{Layout: layout, Known: known}
	for _, pair := range [][2]string{
		{server.URL + "/q?key=a", server.URL + "/q?key=b"},
		{strings.Replace(server.URL, "://", "://alice:pw@", 1), strings.Replace(server.URL, "://", "://bob:pw@", 1)},
	} {
		var got [2]Download
		for i, address := range pair {
			got[i], err = downloads.Revalidate(t.Context(), address)
			must(t, err)
		}
		if got[0].Digest == got[1].Digest {
			t.Errorf("%s and %s give the same content", pair[0], pair[1])
		}
		for i, address := range pair {
			if d, err := downloads.Get(t.Context(), address, Download{}, ""); err != nil || d != got[i] {
				t.Errorf("%s is remembered as %v, %v; was %v", address, d, err, got[i])
			}
		}
	}
}

// TestSizeOfPin holds that a file of pins, which says how long content is, does not shorten or lengthen it: the layer that is made of it
// answers every build that reads the same.
func TestSizeOfPin(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "0123456789") }))
	defer server.Close()
	_, layout := testStore(t)
	downloads := Downloads{Layout: layout}
	known, err := downloads.Revalidate(t.Context(), server.URL)
	must(t, err)
	for _, size := range []int64{3, 4096} {
		pin := Download{Digest: known.Digest, Size: size, LastModified: "Mon, 01 Jan 2001 00:00:00 GMT"}
		for _, address := range []string{server.URL, server.URL + "/other"} { // of which nothing is known
			got, err := downloads.Get(t.Context(), address, pin, "")
			must(t, err)
			if got.Size != 10 || got.LastModified != known.LastModified {
				t.Errorf("content of 10 bytes that a file says to have %d, and to be of 2001, counts as %d of %q", size, got.Size, got.LastModified)
			}
		}
	}
}
