package local

import (
	"context"
	"crypto/sha512"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/source"
	"github.com/forge-build/forge/source/sourcetest"
)

// A testServer serves one content and counts what it is asked.
type testServer struct {
	*httptest.Server
	content        atomic.Pointer[string]
	gets, notModif atomic.Int32
}

const testModified = "Mon, 02 Jan 2006 15:04:05 GMT"

func newTestServer(t *testing.T, content string) *testServer {
	t.Helper()
	s := &testServer{}
	s.content.Store(&content)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := *s.content.Load()
		tag := fmt.Sprintf("%q", digest.FromString(body).Encoded()[:8])
		w.Header().Set("ETag", tag)
		w.Header().Set("Last-Modified", testModified)
		w.Header().Set("Content-Disposition", "attachment; filename=other")
		if r.Header.Get("If-None-Match") == tag {
			s.notModif.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		s.gets.Add(1)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestAddURL(t *testing.T) {
	content := "hello"
	s := newTestServer(t, content)
	archive := newTestServer(t, string(sourcetest.Gzip(t, sourcetest.Tar(t, sourcetest.File("f", "1")))))
	sum := digest.FromString(content).String()
	sum512 := digest.NewDigestFromBytes(digest.SHA512, func() []byte { b := sha512.Sum512([]byte(content)); return b[:] }()).String()
	for _, test := range []struct{ name, do, want string }{
		{"to a file", "ADD " + s.URL + "/a /x", "x =hello 600"},
		{"to a directory", "ADD " + s.URL + "/d/a.txt?q=/b#c /x/", "x/; x/a.txt =hello 600"},
		{"without a name", "ADD " + s.URL + " /x/", "x/; x/__unnamed__ =hello 600"},
		{"with flags", "ADD --chmod=755 --chown=5:6 " + s.URL + "/a /", "a =hello 755 5:6"},
		{"checksum", "ADD --checksum=" + sum + " " + s.URL + "/a /", "a =hello 600"},
		{"sha512", "ADD --checksum=" + sum512 + " " + s.URL + "/a /", "a =hello 600"},
		{"wrong checksum", "ADD --checksum=" + digest.FromString("x").String() + " " + s.URL + "/a /", "error: digest mismatch"},
		{"bad checksum", "ADD --checksum=md5:x " + s.URL + "/a /", "error: --checksum=md5:x"},
		{"beside a local file", "ADD local " + s.URL + "/a /d/", "d/; d/a =hello 600; d/local =1"},
		{"archives stay", "ADD " + archive.URL + "/a /", "a =" + *archive.content.Load() + " 600"},
		{"unless asked", "ADD --unpack=true " + archive.URL + "/a /t", "t/; t/f =1"},
		{"refused", "ADD http://127.0.0.1:1/a /", "error: connection refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := testLocal(t)
			w.Inputs.Contexts[""] = testContext(t, "local =1")
			got, layer, _ := runCopy(t, w, executor.Job{}, testCopy(t, test.do))
			if want, ok := strings.CutPrefix(test.want, "error: "); ok && !strings.Contains(got, want) || !ok && got != test.want {
				t.Errorf("%s\n got %s\nwant %s", test.do, got, test.want)
			}
			if test.name != "to a file" {
				return
			}
			view, err := w.Inputs.Layers.Snapshots.View(context.Background(), []image.Layer{layer})
			check(t, err)
			defer view.Close() //nolint:errcheck
			e, err := view.Lstat("x")
			check(t, err)
			if got := e.ModTime.UTC().Format(http.TimeFormat); got != testModified {
				t.Errorf("mtime %s, want %s", got, testModified)
			}
		})
	}
}

// TestAddURLAgain holds that an unchanged URL is asked after and not fetched, and that a changed one changes the key.
func TestAddURLAgain(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, "one")
	w := testLocal(t)
	op := testCopy(t, "ADD "+s.URL+"/a /")
	step := func(what, content string, gets, notModified int32) cache.Key {
		t.Helper()
		s.content.Store(&content)
		s.gets.Store(0)
		s.notModif.Store(0)
		got, _, key := runCopy(t, w, executor.Job{}, op)
		if want := "a =" + content + " 600"; got != want || s.gets.Load() != gets || s.notModif.Load() != notModified {
			t.Errorf("%s: %s after %d downloads and %d answers of no change, want %s, %d, %d",
				what, got, s.gets.Load(), s.notModif.Load(), want, gets, notModified)
		}
		return key
	}
	first := step("first", "one", 1, 0)
	if again := step("again", "one", 0, 1); again != first {
		t.Error("the key of an unchanged URL changed")
	}
	second := step("changed", "two", 1, 0)
	if second == first {
		t.Error("the key of a changed URL is the same")
	}
	// The content may go; it is fetched when it is needed, and not before.
	check(t, w.Layout.Publish(context.Background()))
	check(t, os.Remove(w.Layout.BlobPath(digest.FromString("two"))))
	step("gone", "two", 1, 1)
}

// TestAddURLPinned holds that a step is done with the content that described it, or not at all.
func TestAddURLPinned(t *testing.T) {
	t.Parallel()
	one, two := "one", "two"
	s := newTestServer(t, one)
	w := testLocal(t)
	job := executor.Job{Op: testCopy(t, "ADD "+s.URL+"/a /")}
	_, err := describe(t.Context(), w, &job)
	check(t, err)
	s.content.Store(&two)
	again := job // of another build
	_, err = describe(t.Context(), w, &again)
	check(t, err)
	result, err := w.Do(t.Context(), job, nil)
	check(t, err)
	view, err := w.Inputs.Layers.Snapshots.View(t.Context(), []image.Layer{result.Layer})
	check(t, err)
	if got, want := sourcetest.Print(t, view), "a =one 600"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	check(t, view.Close())
	check(t, w.Layout.Publish(context.Background()))
	check(t, os.Remove(w.Layout.BlobPath(digest.FromString(one))))
	if _, err := w.Do(context.Background(), job, nil); err == nil || !strings.Contains(err.Error(), "during the build") {
		t.Errorf("content that is gone and cannot be had again: %v", err)
	}
}

// TestAddURLChecksumOffline holds that a checksum makes the key without a question to the server.
func TestAddURLChecksumOffline(t *testing.T) {
	t.Parallel()
	w := testLocal(t)
	op := testCopy(t, "ADD --checksum="+digest.FromString("x").String()+" http://127.0.0.1:1/a /")
	_, err := describe(t.Context(), w, &executor.Job{Op: op})
	check(t, err)
}

// TestAddURLSecrets holds that neither a token given as a user name, nor a password, nor a signature of the query shows in
// errors or in what is remembered.
func TestAddURLSecrets(t *testing.T) {
	t.Parallel()
	long(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u+p != "sesame" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer s.Close()
	dead := httptest.NewServer(nil)
	dead.Close()
	for _, login := range []string{"sesame@", "ses:ame@"} {
		w := testLocal(t)
		address := strings.Replace(s.URL, "://", "://"+login, 1) + "/a?X-Amz-Signature=sesame"
		h, err := describe(t.Context(), w, &executor.Job{Op: testCopy(t, "ADD "+address+" /")})
		check(t, err)
		if fields := fmt.Sprint(h.Fields()); strings.Contains(fields, "ses") {
			t.Errorf("%s: a secret is in the key's fields: %s", login, fields)
		}
		root := filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(w.Layout.BlobPath(digest.FromString("")))))) // of the store
		check(t, filepath.WalkDir(root, func(p string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(p)
			if strings.Contains(string(b), "sesame") || strings.Contains(string(b), "ses:ame") {
				t.Errorf("a secret is in %s", p)
			}
			return err
		}))
		for _, path := range []string{"/x.tgz", "/x.git", "/x.tgz?token=sesame"} {
			op := testCopy(t, "ADD "+strings.Replace(dead.URL, "://", "://"+login, 1)+path+" /")
			_, err := describe(t.Context(), w, &executor.Job{Op: op})
			if err == nil || strings.Contains(err.Error(), "ses") || !strings.Contains(err.Error(), "xxxxx@127.0.0.1") {
				t.Errorf("ADD of %s%s: %v; want an error with xxxxx@", login, path, err)
			}
			_, err = source.Open(t.Context(), source.Spec{Context: strings.Replace(dead.URL, "://", "://"+login, 1) + path})
			if err == nil || strings.Contains(err.Error(), "ses") || !strings.Contains(err.Error(), "xxxxx@127.0.0.1") {
				t.Errorf("a context at %s%s: %v; want an error with xxxxx@", login, path, err)
			}
		}
	}
}
