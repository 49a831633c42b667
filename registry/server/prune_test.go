package server_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/registry/server"
)

// TestPrune holds that what a manifest names stays, in each repository by itself, and that the rest goes.
func TestPrune(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c, stop := startUntil(t, server.Options{Root: root})
	kept := c.image("a", "v1", "kept", nil, "")
	gone := c.image("a", "v2", "gone", nil, "")
	c.image("b", "v1", "gone", nil, "")
	loose := c.push("b", []byte("loose"))
	upload := strings.TrimPrefix(c.do("POST", "/v2/b/blobs/uploads/", nil).want(t, 202).location(t), c.base)
	c.do("DELETE", "/v2/a/manifests/"+gone.Digest.String(), nil).want(t, 202)
	if _, err := server.Prune(t.Context(), root); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("Prune beside a server: %v, want a refusal", err)
	}
	stop()
	p, err := server.Prune(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Blobs) != 1 || p.Blobs[0] != loose || p.Bytes == 0 {
		t.Errorf("Prune removed %v, %d bytes; want %s", p.Blobs, p.Bytes, loose)
	}
	again := start(t, server.Options{Root: root})
	layer := "/blobs/" + digest.FromString("gone").String()
	again.do("GET", "/v2/a"+layer, nil).want(t, 404)
	again.do("GET", "/v2/b"+layer, nil).want(t, 200)
	again.do("GET", "/v2/b/blobs/"+loose.String(), nil).want(t, 404)
	again.do("GET", "/v2/a/manifests/"+kept.Digest.String(), nil).want(t, 200)
	again.do("GET", "/v2/a/blobs/"+digest.FromString("kept").String(), nil).want(t, 200)
	again.do("GET", upload, nil).want(t, 204)
}

// TestPruneDoesNotGuess holds that nothing goes from a repository in which a manifest is damaged.
func TestPruneDoesNotGuess(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c, stop := startUntil(t, server.Options{Root: root})
	d := c.image("a", "v1", "layer", nil, "")
	loose := c.push("a", []byte("loose"))
	stop()
	path := filepath.Join(root, "images/blobs/sha256", d.Digest.Encoded())
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Prune(t.Context(), root); err == nil || !strings.Contains(err.Error(), "repository a: manifest: "+d.Digest.String()) {
		t.Errorf("Prune with a damaged manifest: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "images/blobs/sha256", loose.Encoded())); err != nil {
		t.Errorf("a blob is gone: %v", err)
	}
	if _, err := server.Prune(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "not the directory of a registry") {
		t.Errorf("Prune of another directory: %v", err)
	}
}

// TestMigrate starts on a directory of an earlier version, which kept content elsewhere.
func TestMigrate(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c, stop := startUntil(t, server.Options{Root: root})
	d := c.image("a", "v1", "layer", nil, "")
	stop()
	old, now := filepath.Join(root, "blobs"), filepath.Join(root, "images")
	if err := os.Rename(filepath.Join(now, "blobs"), old); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{now, filepath.Join(root, "names"), filepath.Join(root, "ingest")} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	c, stop = startUntil(t, server.Options{Root: root})
	c.do("GET", "/v2/a/manifests/v1", nil).want(t, 200)
	stop()
	if _, err := os.Stat(filepath.Join(now, "blobs/sha256", d.Digest.Encoded())); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Errorf("%s is still there", old)
	}
}

// TestNotAStateDirectory holds that a registry is not served from the directory that forge keeps images in.
func TestNotAStateDirectory(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "version"), []byte("forge store 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.New(context.Background(), server.Options{Root: root}); err == nil || !strings.Contains(err.Error(), "a directory of its own") {
		t.Errorf("server in a state directory: %v", err)
	}
}
