package source

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/source/sourcetest"
)

func TestOpenContext(t *testing.T) {
	long(t)
	owned := sourcetest.File("f", "1")
	owned.Uid, owned.PAXRecords = 7, map[string]string{"SCHILY.xattr.user.k": "v"}
	archive := sourcetest.Tar(t, sourcetest.Dir("d", 0o700), sourcetest.File("d/x", "2"), owned, sourcetest.Link("l", "/d"), sourcetest.Hard("h", "f"))
	const want = "d/ 700; d/x =2; f =1 7:0 user.k:v #1; h =1 7:0 user.k:v #1; l ->/d"
	repos := sourcetest.NewRepo(t)
	repos.Git("r.git", "init", "-q", "-b", "main")
	repos.Commit("r.git", "a=1", "d/b=2")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/context.tar.gz":
			_, _ = w.Write(sourcetest.Gzip(t, archive))
		case "/Dockerfile":
			_, _ = io.WriteString(w, "FROM scratch\n")
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	for _, test := range []struct {
		name, spec, stdin, file, tree, text, err string
	}{
		{"tar", "-", string(archive), "f", want, "1", ""},
		{"compressed tar", "-", string(sourcetest.Gzip(t, archive)), "f", want, "1", ""},
		{"build file", "-", "FROM scratch\nCOPY <<f /\n", "", "", "FROM scratch\nCOPY <<f /\n", ""},
		{"nothing", "-", "", "", "", "", ""},
		{"empty tar", "-", string(make([]byte, 10240)), "", "", string(make([]byte, 10240)), ""},
		{"cut tar", "-", string(archive[:1600]), "", "", "", "unexpected EOF"},
		{"compressed something", "-", string(sourcetest.Gzip(t, []byte("x"))), "", "", "", "there is no tar in it"},
		{"too much", "-", strings.Repeat("x", maxBuildFile+1), "", "", "", "neither a tar nor a build file"},
		{"tar of a URL", server.URL + "/context.tar.gz", "", "f", want, "1", ""},
		{"build file of a URL", server.URL + "/Dockerfile", "", "", "", "FROM scratch\n", ""},
		{"missing", server.URL + "/none", "", "", "", "", "404 Not Found"},
		{"git", repos.URL + "r.git", "", "a", "a =1; d/; d/b =2", "1", ""},
		{"git with directory", repos.URL + "r.git#main:d", "", "b", "b =2", "2", ""},
		{"no ref", repos.URL + "r.git#x", "", "", "", "", `there is no ref "x"`},
		{"directory", sourcetest.Write(t, "d/; d/x =2 600; f =1 #1; h =1 #1; l ->/d; p |"), "", "f", "d/; d/x =2 600; f =1 #1; h =1 #1; l ->/d; p |", "1", ""},
		{"no such directory", "./none", "", "", "", "", "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			store, layout := testStore(t)
			s, err := Open(t.Context(), Spec{
				Context: test.spec, Stdin: strings.NewReader(test.stdin), File: test.file,
				Store: Store{Layout: layout, Snapshots: func() (*snapshot.Store, error) { return store, nil }},
			})
			if test.err != "" || err != nil {
				if test.err == "" || err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %q", err, test.err)
				}
				return
			}
			sourcetest.TestTree(t, s.Trees[""], test.tree)
			if string(s.Text) != test.text {
				t.Errorf("build file %.100q, want %.100q", s.Text, test.text)
			}
			must(t, s.Close())
			if left, err := filepath.Glob(layout.Root() + "/ingest/*/*/.git"); err != nil || len(left) > 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

// testStore is a store with nothing in it.
func testStore(t testing.TB) (*snapshot.Store, *image.Layout) {
	t.Helper()
	root := t.TempDir()
	staging, err := image.OpenStaging(root)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := image.OpenLayout(root, staging)
	if err != nil {
		t.Fatal(err)
	}
	store, err := snapshot.Open(root, layout, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(store.Close(), staging.Close()) })
	return store, layout
}

func TestIsRemote(t *testing.T) {
	for spec, want := range map[string]bool{
		".": false, "-": false, "/a/b.git": false, "a:b": false, "https://h/a.git#x:y": true, "https://h/x.tar": true, "git://h/x": true,
		"ssh://git@h/x": true, "git@h:x/y.git": true, "github.com/a/b": true, "./github.com/a/b": false, "C:\\x": false,
	} {
		if got := IsRemote(spec); got != want {
			t.Errorf("IsRemote(%q) = %v, want %v", spec, got, want)
		}
	}
}

func FuzzContextStream(f *testing.F) {
	f.Add(sourcetest.Tar(f, sourcetest.File("a", "1")))
	f.Add([]byte("FROM scratch"))
	store, layout := testStore(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Open(t.Context(), Spec{
			Context: "-", Stdin: bytes.NewReader(b),
			Store: Store{Layout: layout, Snapshots: func() (*snapshot.Store, error) { return store, nil }},
		})
		if err != nil {
			return
		}
		defer s.Close() //nolint:errcheck
		if _, ok := s.Trees[""].(*snapshot.View); !ok && s.Text == nil {
			t.Error("neither a tree nor a build file")
		}
	})
}
