package server_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/crypto/bcrypt"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry/server"
)

// put stores a blob and describes it.
func (c client) put(repo, mediaType string, data []byte) ocispec.Descriptor {
	c.t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	r := c.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.Digest.String(), data)
	if r.StatusCode != http.StatusCreated {
		c.t.Fatalf("upload: %s %s", r.Status, r.body)
	}
	return d
}

// putManifest stores a manifest under a tag or its digest.
func (c client) putManifest(repo, tag string, v any) ocispec.Descriptor {
	c.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		c.t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if tag == "" {
		tag = d.Digest.String()
	}
	if r := c.do("PUT", "/v2/"+repo+"/manifests/"+tag, raw, "Content-Type", d.MediaType); r.StatusCode != http.StatusCreated {
		c.t.Fatalf("manifest: %s %s", r.Status, r.body)
	}
	return d
}

// putImage stores an image whose texts are such as an enemy would write.
func (c client) putImage(repo, tag string) ocispec.Descriptor {
	layer := c.put(repo, ocispec.MediaTypeImageLayer, []byte("a layer"))
	config := c.put(repo, ocispec.MediaTypeImageConfig, []byte(`{"architecture":"arm64","os":"linux",
		"config":{"Env":["A=<script>alert(1)</script>"],"Labels":{"\"><img src=x onerror=alert(1)>":"javascript:alert(1)"}},
		"rootfs":{"type":"layers","diff_ids":["`+layer.Digest.String()+`"]},
		"history":[{"created_by":"ENV <b>x</b>","empty_layer":true},{"created_by":"RUN /bin/sh -c make all # buildkit"}]}`))
	return c.putManifest(repo, tag, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config, "layers": []any{layer},
	})
}

// TestPages holds what people see of a registry, that it cannot do anything to them, and that it is only there when asked for.
func TestPages(t *testing.T) {
	t.Parallel()
	c := start(t, server.Options{Pages: true})
	if r := c.do("GET", "/", nil); r.Request.URL.Path != "/ui/" || !strings.Contains(r.body, "There is nothing here yet") {
		t.Errorf("the first page of an empty registry is %s: %s", r.Request.URL, r.body)
	}
	d := c.putImage("team/web", "1.0")
	c.putImage("other", "x")
	statement := c.put("team/web", "application/vnd.in-toto+json", []byte(`{"predicate":{"packages":[{"name":"image"},
		{"name":"lib<x>","versionInfo":"1.2","licenseDeclared":"MIT"},{"name":"zed","versionInfo":"3","licenseDeclared":"NOASSERTION"}]}}`))
	statement.Annotations = map[string]string{image.PredicateAnnotation: "https://spdx.dev/Document"}
	config := c.put("team/web", ocispec.MediaTypeEmptyJSON, []byte("{}"))
	about := c.putManifest("team/web", "", map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "artifactType": "application/vnd.in-toto+json",
		"config": config, "layers": []any{statement}, "subject": d,
	})
	for path, want := range map[string][]string{
		"/ui/":                         {"team/web", "other", "2 repositories"},
		"/ui/?q=web":                   {"team/web", "1 repository with “web”", "!other"},
		"/ui/?q=none":                  {"No repository has “none”"},
		"/ui/?last=other":              {"team/web", "!>other<"},
		"/ui/repository?name=team/web": {"1.0", "linux/arm64", "7B", d.Digest.Encoded()[:12]},
		"/ui/image?name=team/web&ref=1.0": {
			"forge pull " + strings.TrimPrefix(c.base, "http://") + "/team/web:1.0", d.Digest.String(), "A=&lt;script&gt;", "<code>make all</code>",
			"ENV &lt;b&gt;x", "packages (SBOM)", "!<script>alert", "!<img",
		},
		"/ui/image?name=team/web&ref=" + d.Digest.String():                     {"team/web@sha256:", "!team/web:"},
		"/ui/image?name=team/web&ref=" + about.Digest.String():                 {"This is no image, but application/vnd.in-toto", "!forge pull"},
		"/ui/packages?name=team/web&n=0&digest=" + about.Digest.String():       {"lib&lt;x&gt;", "1.2", "MIT", "2 packages", "!NOASSERTION"},
		"/ui/packages?name=team/web&n=0&q=zed&digest=" + about.Digest.String(): {"1 package with “zed”", "!lib&lt;"},
		"/ui/attestation?name=team/web&n=0&digest=" + about.Digest.String():    {`"versionInfo":"1.2"`},
		"/ui/page.css": {"prefers-color-scheme"},
	} {
		r := c.do("GET", path, nil)
		if r.StatusCode != http.StatusOK || !strings.Contains(r.Header.Get("Content-Security-Policy"), "script-src 'self'") {
			t.Errorf("%s: %s, policy %q", path, r.Status, r.Header.Get("Content-Security-Policy"))
		}
		for _, text := range want {
			text, absent := strings.CutPrefix(text, "!")
			if strings.Contains(r.body, text) == absent {
				t.Errorf("%s: %q is there: %t\n%s", path, text, !absent, r.body)
			}
		}
	}
	for _, path := range []string{
		"/ui/none", "/ui/repository?name=none", "/ui/repository?name=../..", "/ui/image?name=team/web&ref=none", "/ui/image?name=..&ref=x",
		"/ui/image?name=team/web&ref=../1.0", "/ui/attestation?name=team/web&n=9&digest=" + about.Digest.String(), "/ui/attestation?name=team/web&n=0&digest=x",
	} {
		if r := c.do("GET", path, nil); r.StatusCode != http.StatusNotFound || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %s, %s", path, r.Status, r.Header.Get("Content-Type"))
		}
	}
	if r := c.do("POST", "/ui/", nil); r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", r.Status)
	}
	if r := c.do("GET", "/ui/attestation?name=team/web&n=0&digest="+about.Digest.String(), nil); !strings.HasPrefix(r.Header.Get("Content-Disposition"), "attachment") {
		t.Error("a statement is shown as a page")
	}
	if r := start(t, server.Options{}).do("GET", "/ui/", nil); r.StatusCode != http.StatusNotFound {
		t.Errorf("pages that nobody has asked for: %s", r.Status)
	}
}

// TestPagesLogin holds that pages are behind the same login as the rest.
func TestPagesLogin(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte("ann:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, server.Options{Pages: true, Htpasswd: file})
	for _, path := range []string{"/", "/ui/", "/ui/page.js", "/ui/image?name=a&ref=b"} {
		if r := c.do("GET", path, nil); r.StatusCode != http.StatusUnauthorized || r.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s without a login: %s", path, r.Status)
		}
	}
	if r := c.do("GET", "/ui/", nil, "Authorization", "Basic YW5uOnNlY3JldA=="); r.StatusCode != http.StatusOK {
		t.Errorf("with a login: %s", r.Status)
	}
}
