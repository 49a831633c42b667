package server_test

import (
	"bytes"
	"context"
	"io/fs"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forge-build/forge/registry/server"
)

// FuzzRequest asks anything: no panic, no error of the server's own, and no file outside of its directory.
func FuzzRequest(f *testing.F) {
	f.Add("PUT", "/v2/a/manifests/x", "application/vnd.oci.image.manifest.v1+json", []byte(`{"schemaVersion":2,"config":{},"layers":[]}`))
	f.Add("POST", "/v2/a/b/blobs/uploads/?digest=sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", "0-4", []byte("hello"))
	f.Add("PATCH", "/v2/../../x/blobs/uploads/00000000000000000000000000000000", "0-4", []byte("hello"))
	f.Add("GET", "/v2/a/tags/list?n=1&last=%00", "", []byte(nil))
	f.Add("DELETE", "/v2/a/manifests/..%2f..%2fx", "", []byte(nil))
	outside := f.TempDir()
	root := filepath.Join(outside, "in")
	s, err := server.New(context.Background(), server.Options{Root: root})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, method, target, header string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") || strings.ContainsAny(method, " \r\n\t") || method == "" {
			return
		}
		r := httptest.NewRequest("GET", "/", bytes.NewReader(body))
		r.Method, r.URL = method, u
		r.Header.Set("Content-Type", header)
		r.Header.Set("Content-Range", header)
		r.Header.Set("Range", header)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %s: HTTP %d %s", method, target, w.Code, w.Body)
		}
		entries, err := os.ReadDir(outside)
		if err != nil || len(entries) != 1 {
			t.Errorf("%s %s: left %v outside, %v", method, target, entries, err)
		}
		if st, err := os.Lstat(root); err != nil || st.Mode()&fs.ModeSymlink != 0 {
			t.Errorf("root is %v, %v", st, err)
		}
	})
}
