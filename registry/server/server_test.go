package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/registry/server"
)

// A client asks one server.
type client struct {
	t    *testing.T
	base string
}

func start(t *testing.T, opts server.Options) client {
	t.Helper()
	c, stop := startUntil(t, opts)
	t.Cleanup(stop)
	return c
}

// startUntil starts a server that the test stops.
func startUntil(t *testing.T, opts server.Options) (c client, stop func()) {
	t.Helper()
	if opts.Root == "" {
		opts.Root = t.TempDir()
	}
	s, err := server.New(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	hs := httptest.NewServer(s)
	return client{t, hs.URL}, func() {
		hs.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

type reply struct {
	*http.Response
	body string
}

// do sends a request; header is pairs of name and value.
func (c client) do(method, path string, body []byte, header ...string) reply {
	c.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = c.base + path
	}
	req, err := http.NewRequest(method, path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return reply{resp, string(raw)}
}

// want fails the test unless the reply has the status.
func (r reply) want(t *testing.T, status int) reply {
	t.Helper()
	if r.StatusCode != status {
		t.Fatalf("%s %s: HTTP %d %s, want %d", r.Request.Method, r.Request.URL, r.StatusCode, r.body, status)
	}
	return r
}

// code fails the test unless the reply has the protocol's error code.
func (r reply) code(t *testing.T, want string) {
	t.Helper()
	var body struct{ Errors []struct{ Code string } }
	if err := json.Unmarshal([]byte(r.body), &body); err != nil || len(body.Errors) != 1 || body.Errors[0].Code != want {
		t.Errorf("%s %s: %s, want code %s", r.Request.Method, r.Request.URL, r.body, want)
	}
}

func (r reply) header(t *testing.T, name, want string) {
	t.Helper()
	if got := r.Header.Get(name); got != want {
		t.Errorf("%s %s: %s is %q, want %q", r.Request.Method, r.Request.URL, name, got, want)
	}
}

func (r reply) location(t *testing.T) string {
	t.Helper()
	u, err := r.Location()
	if err != nil {
		t.Fatal(err)
	}
	return u.String()
}

func withDigest(location string, d digest.Digest) string {
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	return location + sep + "digest=" + url.QueryEscape(d.String())
}

// push uploads a blob in one request.
func (c client) push(repo string, content []byte) digest.Digest {
	c.t.Helper()
	d := digest.FromBytes(content)
	loc := c.do("POST", "/v2/"+repo+"/blobs/uploads/", nil).want(c.t, 202).location(c.t)
	c.do("PUT", withDigest(loc, d), content, "Content-Type", "application/octet-stream").want(c.t, 201)
	return d
}

// image pushes an image with one layer under a tag.
func (c client) image(repo, tag, layer string, subject *ocispec.Descriptor, artifactType string) ocispec.Descriptor {
	c.t.Helper()
	config := []byte("{}")
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config:  ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: c.push(repo, config), Size: 2},
		Layers:  []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: c.push(repo, []byte(layer)), Size: int64(len(layer))}},
		Subject: subject, Annotations: map[string]string{"for": layer},
	}
	raw, err := json.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if tag == "" {
		tag = d.Digest.String()
	}
	r := c.do("PUT", "/v2/"+repo+"/manifests/"+tag, raw, "Content-Type", m.MediaType).want(c.t, 201)
	r.header(c.t, "Docker-Content-Digest", d.Digest.String())
	if subject != nil {
		r.header(c.t, "OCI-Subject", subject.Digest.String())
	}
	return d
}

func TestPull(t *testing.T) {
	t.Parallel()
	c := start(t, server.Options{})
	c.do("GET", "/v2/", nil).want(t, 200).header(t, "Docker-Distribution-API-Version", "registry/2.0")
	d := c.image("team/app", "v1", "a layer", nil, "")
	layer := digest.FromString("a layer")

	for _, what := range []string{"v1", d.Digest.String()} {
		head := c.do("HEAD", "/v2/team/app/manifests/"+what, nil).want(t, 200)
		head.header(t, "Docker-Content-Digest", d.Digest.String())
		head.header(t, "Content-Type", d.MediaType)
		head.header(t, "Content-Length", strconv.FormatInt(d.Size, 10))
		if get := c.do("GET", "/v2/team/app/manifests/"+what, nil).want(t, 200); digest.FromString(get.body) != d.Digest {
			t.Errorf("manifest %s has another digest", what)
		}
	}
	blob := "/v2/team/app/blobs/" + layer.String()
	c.do("HEAD", blob, nil).want(t, 200).header(t, "Content-Length", "7")
	if get := c.do("GET", blob, nil).want(t, 200); get.body != "a layer" {
		t.Errorf("blob is %q", get.body)
	}
	part := c.do("GET", blob, nil, "Range", "bytes=2-4").want(t, 206)
	part.header(t, "Content-Range", "bytes 2-4/7")
	if part.body != "lay" {
		t.Errorf("range is %q, want lay", part.body)
	}
	if rest := c.do("GET", blob, nil, "Range", "bytes=2-").want(t, 206); rest.body != "layer" {
		t.Errorf("rest is %q, want layer", rest.body)
	}
	c.do("GET", blob, nil, "Range", "bytes=7-").want(t, 416)
	c.do("GET", blob, nil, "If-None-Match", `"`+layer.String()+`"`).want(t, 304)
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	c := start(t, server.Options{})
	c.image("app", "v1", "x", nil, "")
	none := digest.FromString("none").String()
	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v2/app/manifests/v2", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/app/manifests/" + none, 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/none/manifests/v1", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/none/tags/list", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/app/blobs/" + none, 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/app/blobs/sha256:zz", 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/blobs/sha256:" + strings.Repeat("../", 21) + "x", 404, ""},
		{"GET", "/v2/app/blobs/md5:0123", 400, "DIGEST_INVALID"},
		{"GET", "/v2/App/tags/list", 400, "NAME_INVALID"},
		{"GET", "/v2/_blobs/tags/list", 400, "NAME_INVALID"},
		{"GET", "/v2/a//b/tags/list", 404, ""},
		{"PATCH", "/v2/app/blobs/uploads/" + strings.Repeat("0", 32), 404, "BLOB_UPLOAD_UNKNOWN"},
		{"PUT", "/v2/app/blobs/uploads/..%2f..%2fx?digest=" + none, 404, ""},
		{"POST", "/v2/app/manifests/v1", 405, "UNSUPPORTED"},
		{"DELETE", "/v2/app/manifests/v9", 404, "MANIFEST_UNKNOWN"},
		{"DELETE", "/v2/app/blobs/" + none, 404, "BLOB_UNKNOWN"},
		{"GET", "/v1/", 404, "NOT_FOUND"},
		{"GET", "/v2/app/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID"},
	} {
		r := c.do(test.method, test.path, nil)
		if r.StatusCode != test.status && test.code != "" {
			t.Errorf("%s %s = HTTP %d, want %d", test.method, test.path, r.StatusCode, test.status)
		}
		if r.StatusCode < 400 {
			t.Errorf("%s %s = HTTP %d, want a refusal", test.method, test.path, r.StatusCode)
		}
		if test.code != "" {
			r.code(t, test.code)
		}
	}
}

func TestUploads(t *testing.T) {
	t.Parallel()
	c := start(t, server.Options{})
	content := []byte(strings.Repeat("0123456789", 1000))
	d := digest.FromBytes(content)

	// In one request.
	r := c.do("POST", "/v2/one/blobs/uploads/?digest="+url.QueryEscape(d.String()), content).want(t, 201)
	if get := c.do("GET", r.location(t), nil).want(t, 200); get.body != string(content) {
		t.Error("blob of a single POST differs")
	}
	// With a wrong digest.
	c.do("POST", "/v2/one/blobs/uploads/?digest="+digest.FromString("x").String(), content).want(t, 400).code(t, "DIGEST_INVALID")
	loc := c.do("POST", "/v2/two/blobs/uploads/", nil).want(t, 202).location(t)
	c.do("PUT", withDigest(loc, digest.FromString("x")), content).want(t, 400).code(t, "DIGEST_INVALID")
	c.do("GET", loc, nil).want(t, 404)
	c.do("HEAD", "/v2/two/blobs/"+digest.FromString("x").String(), nil).want(t, 404)

	// In chunks.
	post := c.do("POST", "/v2/two/blobs/uploads/", nil).want(t, 202)
	if post.Header.Get("Docker-Upload-UUID") == "" {
		t.Error("upload has no UUID")
	}
	loc = post.location(t)
	c.do("PATCH", loc, content[100:200], "Content-Range", "100-199").want(t, 416)
	first := c.do("PATCH", loc, content[:4000], "Content-Range", "0-3999").want(t, 202)
	first.header(t, "Range", "0-3999")
	c.do("PATCH", first.location(t), content[:4000], "Content-Range", "0-3999").want(t, 416).header(t, "Range", "0-3999")
	c.do("GET", first.location(t), nil).want(t, 204).header(t, "Range", "0-3999")
	second := c.do("PATCH", first.location(t), content[4000:7000]).want(t, 202) // streamed, without a range
	second.header(t, "Range", "0-6999")
	c.do("PUT", withDigest(second.location(t), d), content[7000:], "Content-Range", "7000-9999").want(t, 201)
	if get := c.do("GET", "/v2/two/blobs/"+d.String(), nil).want(t, 200); get.body != string(content) {
		t.Error("blob of chunks differs")
	}

	// Given up.
	loc = c.do("POST", "/v2/two/blobs/uploads/", nil).want(t, 202).location(t)
	c.do("DELETE", loc, nil).want(t, 204)
	c.do("PATCH", loc, content).want(t, 404).code(t, "BLOB_UPLOAD_UNKNOWN")
	// Of another repository.
	loc = c.do("POST", "/v2/two/blobs/uploads/", nil).want(t, 202).location(t)
	c.do("PATCH", strings.Replace(loc, "/two/", "/one/", 1), content).want(t, 404)
}

func TestMount(t *testing.T) {
	t.Parallel()
	c := start(t, server.Options{})
	d := c.push("from/here", []byte("shared"))
	none := digest.FromString("none").String()
	c.do("POST", "/v2/to/there/blobs/uploads/?mount="+none+"&from=from/here", nil).want(t, 202)
	c.do("POST", "/v2/to/there/blobs/uploads/?mount="+d.String()+"&from=nowhere", nil).want(t, 202)
	c.do("GET", "/v2/to/there/blobs/"+d.String(), nil).want(t, 404)
	c.do("POST", "/v2/to/there/blobs/uploads/?mount="+d.String()+"&from=from/here", nil).want(t, 201)
	c.do("GET", "/v2/to/there/blobs/"+d.String(), nil).want(t, 200)
	// What is mounted stays when its first repository gives it up.
	c.do("DELETE", "/v2/from/here/blobs/"+d.String(), nil).want(t, 202)
	c.do("GET", "/v2/from/here/blobs/"+d.String(), nil).want(t, 404)
	c.do("GET", "/v2/to/there/blobs/"+d.String(), nil).want(t, 200)
}

func TestContentIsGoneWithItsLastRepository(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := start(t, server.Options{Root: root})
	d := c.push("a", []byte("content"))
	c.push("b", []byte("content"))
	path := filepath.Join(root, "images/blobs/sha256", d.Encoded())
	c.do("DELETE", "/v2/a/blobs/"+d.String(), nil).want(t, 202)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("content that b has: %v", err)
	}
	c.do("DELETE", "/v2/b/blobs/"+d.String(), nil).want(t, 202)
	if _, err := os.Stat(path); err == nil {
		t.Error("content that nobody has is still there")
	}
	c.push("b", []byte("content"))
	c.do("GET", "/v2/b/blobs/"+d.String(), nil).want(t, 200)
}

func TestManifestsAreChecked(t *testing.T) {
	t.Parallel()
	c := start(t, server.Options{})
	d := c.image("app", "v1", "x", nil, "")
	none := digest.FromString("none")
	const mt = ocispec.MediaTypeImageManifest
	for _, test := range []struct {
		name, ref, mediaType, body string
		status                     int
		code                       string
	}{
		{"not JSON", "v2", mt, "x", 400, "MANIFEST_INVALID"},
		{"unknown blob", "v2", mt, fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"a","digest":"%s","size":1},"layers":[]}`, none), 404, "MANIFEST_BLOB_UNKNOWN"},
		{"unknown manifest", "v2", ocispec.MediaTypeImageIndex, fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"%s","digest":"%s","size":1}]}`, mt, none), 404, "MANIFEST_BLOB_UNKNOWN"},
		{"other type", "v2", ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"mediaType":"` + mt + `","manifests":[]}`, 400, "MANIFEST_INVALID"},
		{"two kinds", "v2", mt, `{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}`, 400, "MANIFEST_INVALID"},
		{"schema 1", "v2", "application/vnd.docker.distribution.manifest.v1+json", `{"schemaVersion":1}`, 400, "MANIFEST_INVALID"},
		{"other digest", none.String(), mt, `{}`, 400, "DIGEST_INVALID"},
		{"bad tag", "-v", mt, `{}`, 400, "TAG_INVALID"},
		{"too big", "v2", mt, strings.Repeat(" ", 5<<20), 413, "MANIFEST_INVALID"},
	} {
		r := c.do("PUT", "/v2/app/manifests/"+test.ref, []byte(test.body), "Content-Type", test.mediaType)
		if r.StatusCode != test.status {
			t.Errorf("%s: HTTP %d %s, want %d", test.name, r.StatusCode, r.body, test.status)
		}
		r.code(t, test.code)
	}
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"%s","digest":"%s","size":%d}]}`, mt, d.Digest, d.Size)
	c.do("PUT", "/v2/app/manifests/multi", []byte(index), "Content-Type", ocispec.MediaTypeImageIndex).want(t, 201)
	c.do("GET", "/v2/app/manifests/v2", nil).want(t, 404)
}
