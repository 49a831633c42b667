package source

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/planner"
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

// TestPinIsOfDigest holds that a file of pins, which says how long and how old content is, changes neither: the layer that is made of it
// answers every build that reads the same.
func TestPinIsOfDigest(t *testing.T) {
	const modified, claimed = "Tue, 02 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2001 00:00:00 GMT"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", modified)
		fmt.Fprint(w, "0123456789")
	}))
	defer server.Close()
	for _, size := range []int64{3, 4096} {
		_, layout := testStore(t)
		known, err := cache.OpenStore[Download](t.TempDir())
		must(t, err)
		r := &Resolver{Downloads: Downloads{Layout: layout, Known: known}, Pins: &Pins{}}
		pin := Download{Digest: digest.FromString("0123456789"), Size: size, LastModified: claimed}
		setPin(r.Pins, pinnedURLs, server.URL, pin)
		for _, have := range []string{"nothing", "the content and what the server said of it"} {
			in, err := r.url(t.Context(), &planner.Copy{}, server.URL)
			must(t, err)
			got, err := r.Downloads.Get(t.Context(), server.URL, *in.Download, "")
			must(t, err)
			if got.Size != 10 || got.LastModified != modified {
				t.Errorf("with %s: content of 10 bytes that a file says to have %d, and to be of %s, counts as %d of %q", have, size, claimed, got.Size, got.LastModified)
			}
		}
		setPin(r.Pins, pinnedURLs, server.URL+"/other", pin)
		in, err := r.url(t.Context(), &planner.Copy{}, server.URL+"/other")
		must(t, err)
		if got, err := r.Downloads.Get(t.Context(), server.URL, *in.Download, ""); err != nil || got.LastModified != "" {
			t.Errorf("nobody said how old this is, and it is of %q, %v", got.LastModified, err)
		}
	}
}
