package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/registry/server"
)

// TestPutBesideDelete pushes a manifest while it is being deleted, and holds that a tag that was acknowledged names something.
func TestPutBesideDelete(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c, stop := startUntil(t, server.Options{Root: root})
	d := c.image("a", "v1", "layer", nil, "")
	raw := []byte(c.do("GET", "/v2/a/manifests/v1", nil).want(t, 200).body)
	// DELETE reads all tags in order, and waits amid that for what this one holds.
	pipe := filepath.Join(root, "repositories/a/_tags/v2")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	deleted, put := make(chan int, 1), make(chan int, 1)
	go func() { deleted <- status("DELETE", c.base+"/v2/a/manifests/"+d.Digest.String(), "", "") }()
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() { put <- status("PUT", c.base+"/v2/a/manifests/v1", d.MediaType, string(raw)) }()
	for range 100 { // in the time of which it would be done if it did not wait
		c.do("GET", "/v2/a/blobs/"+digest.FromString("layer").String(), nil)
	}
	if err := os.Remove(pipe); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if del, put := <-deleted, <-put; del != http.StatusAccepted || put != http.StatusCreated {
		t.Errorf("DELETE: HTTP %d, PUT: HTTP %d", del, put)
	}
	c.do("GET", "/v2/a/manifests/v1", nil).want(t, 200)
	stop()
	if _, err := server.Prune(t.Context(), root); err != nil {
		t.Errorf("prune: %v", err)
	}
}

// status is what a request is answered with, 0 if it is not.
func status(method, url, mediaType, body string) int {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestDeleteManifestAsBlob holds that a manifest is not deleted below the path of blobs, which would leave a tag that names nothing.
func TestDeleteManifestAsBlob(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c, stop := startUntil(t, server.Options{Root: root})
	d := c.image("a", "v1", "layer", nil, "")
	c.do("DELETE", "/v2/a/blobs/"+d.Digest.String(), nil).want(t, 405).code(t, "UNSUPPORTED")
	c.do("GET", "/v2/a/manifests/v1", nil).want(t, 200)
	c.push("b", []byte("loose"))
	stop()
	if p, err := server.Prune(t.Context(), root); err != nil || len(p.Blobs) != 1 {
		t.Errorf("prune: %v, %v", p.Blobs, err)
	}
}

// TestPruneGoesOn holds that a damaged repository keeps its blobs, and that those of the others go all the same.
func TestPruneGoesOn(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c, stop := startUntil(t, server.Options{Root: root})
	var loose []digest.Digest
	for _, repo := range []string{"a", "b", "c", "d"} {
		d := c.image(repo, "v1", "layer of "+repo, nil, "")
		loose = append(loose, c.push(repo, []byte("loose in "+repo)))
		if repo == "a" || repo == "c" {
			if err := os.Remove(filepath.Join(root, "repositories", repo, "_blobs", d.Digest.Encoded())); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(root, "images/blobs/sha256", d.Digest.Encoded())); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	p, err := server.Prune(t.Context(), root)
	if err == nil || !strings.Contains(err.Error(), "repository a: ") || !strings.Contains(err.Error(), "repository c: ") {
		t.Errorf("prune of two damaged repositories: %v", err)
	}
	if len(p.Blobs) != 2 {
		t.Errorf("prune removed %v", p.Blobs)
	}
	for i, d := range loose {
		_, err := os.Stat(filepath.Join(root, "images/blobs/sha256", d.Encoded()))
		if stays := i%2 == 0; stays != (err == nil) {
			t.Errorf("%s of repository %d: %v", d, i, err)
		}
	}
}
