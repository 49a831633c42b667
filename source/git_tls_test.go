package source

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/forge-build/forge/planner"
)

// TestGitAuthority holds that git believes the authorities of SSL_CERT_FILE, as forge itself does.
func TestGitAuthority(t *testing.T) {
	const commit = "1234567890123456789012345678901234567890"
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x.git/info/refs" { // the "dumb" protocol of gitprotocol-http(5)
			fmt.Fprintf(w, "%s\trefs/heads/main\n", commit)
			return
		}
		http.NotFound(w, r)
	}))
	defer s.Close()
	g := &Git{planner.GitRef{Remote: s.URL + "/x.git", Ref: "main"}}
	t.Setenv("SSL_CERT_FILE", "")
	t.Setenv("GIT_SSL_CAINFO", "")
	if _, err := g.Resolve(t.Context()); err == nil {
		t.Error("a certificate that nobody knows was believed")
	}
	file := filepath.Join(t.TempDir(), "company.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	if c, err := g.Resolve(t.Context()); err != nil || c.ID != commit {
		t.Errorf("%+v, %v", c, err)
	}
}
