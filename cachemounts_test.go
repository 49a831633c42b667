package forge

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/forge-build/forge/cache/mounts"
)

// TestShelvesTrust holds that what is signed in a directory is believed by those who only read it.
func TestShelvesTrust(t *testing.T) {
	t.Parallel()
	h, err := Open(t.Context(), Options{Dir: t.TempDir(), Snapshotter: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close() //nolint:errcheck
	private, public := keyPair(t)
	place := t.TempDir()
	shelf := func(o BuildOptions) *mounts.Shelf {
		shelves, err := h.shelves(t.Context(), o)
		if err != nil || len(shelves) != 1 {
			t.Fatalf("%d shelves, %v", len(shelves), err)
		}
		return shelves[0]
	}
	var to, from BuildOptions
	to.To, to.Key = []CacheSpec{{Type: "local", Attrs: map[string]string{"dest": place}}}, private
	writer := shelf(to)
	tag := "tag"
	signature := writer.Key.Sign(writer.Place, "main", tag, "text")
	if err := os.WriteFile(filepath.Join(place, "index.json"), []byte(`{"schemaVersion":2,"manifests":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	from.From, from.Trust = []CacheSpec{{Type: "local", Attrs: map[string]string{"src": place}}}, public
	reader := shelf(from)
	if err := reader.Trust.Check(reader.Place, "main", tag, "text", signature); err != nil {
		t.Error(err)
	}
	if reader.Place.Write != nil {
		t.Error("a place that is read is written")
	}
	if _, err := mounts.List(t.Context(), reader.Place); err != nil {
		t.Errorf("what is in it is not listed: %v", err)
	}
}

// keyPair writes a private and a public key, and returns their files.
func keyPair(t *testing.T) (private, public string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	rawPub, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"key.pem": {Type: "PRIVATE KEY", Bytes: raw}, "public.pem": {Type: "PUBLIC KEY", Bytes: rawPub}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "key.pem"), filepath.Join(dir, "public.pem")
}

// TestCacheNamed holds that any scope can be named behind a repository.
func TestCacheNamed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, repository, scope string }{
		{"app", "app", ""},
		{"app:main", "app", "main"},
		{"team/app:feature/x", "team/app", "feature/x"},
		{"app:feature/x", "app", "feature/x"},
		{"localhost:5000/app", "localhost:5000/app", ""},
		{"localhost:5000/app:pr:7", "localhost:5000/app", "pr:7"},
		{"localhost:5000/app:pr:7:feature/x", "localhost:5000/app", "pr:7:feature/x"},
		{"app:pr:7/x", "app", "pr:7/x"},
		{"app:tags:", "app", "tags:"},
		{"[::1]:5000/team/app:tags:", "[::1]:5000/team/app", "tags:"},
		{"[::1]/app:main", "[::1]/app", "main"},
		{"", "", ""},
	} {
		spec, scope := cacheNamed(test.in)
		if got := spec.Attrs["ref"]; got != test.repository || scope != test.scope {
			t.Errorf("cacheNamed(%q) = %q, %q, want %q, %q", test.in, got, scope, test.repository, test.scope)
		}
	}
}

// TestCheckedOut holds that the branch is that of the repository around a directory, be it a worktree or a submodule.
func TestCheckedOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"app/.git/HEAD":                     "ref: refs/heads/main\n",
		"app/.git/refs/remotes/origin/HEAD": "ref: refs/remotes/origin/trunk\n",
		"app/src/x":                         "",
		"app/lib/.git":                      "gitdir: ../.git/modules/lib\n",
		"app/.git/modules/lib/HEAD":         "ref: refs/heads/topic\n",
		"tree/.git":                         "gitdir: " + dir + "/app/.git/worktrees/tree\n",
		"app/.git/worktrees/tree/HEAD":      "ref: refs/heads/fix/x\n",
		"app/.git/worktrees/tree/commondir": "../..\n",
		"table/.git/HEAD":                   "ref: refs/heads/.invalid\n",
		"commit/.git/HEAD":                  "0123456789012345678901234567890123456789\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ dir, branch, origin string }{
		{"app", "main", "trunk"},
		{"app/src", "main", "trunk"},
		{"app/lib", "topic", ""},
		{"tree", "fix/x", "trunk"},
		{"table", "", ""},
		{"commit", "", ""},
	} {
		if branch, origin := checkedOut(filepath.Join(dir, test.dir)); branch != test.branch || origin != test.origin {
			t.Errorf("%s: %q of %q, want %q of %q", test.dir, branch, origin, test.branch, test.origin)
		}
	}
}
