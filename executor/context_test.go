package executor

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/forge-build/forge/snapshot"
)

func TestOpenContext(t *testing.T) {
	owned := file("f", "1")
	owned.Uid, owned.PAXRecords = 7, map[string]string{"SCHILY.xattr.user.k": "v"}
	archive := tarOf(t, dir("d", 0o700), file("d/x", "2"), owned, link("l", "/d"), hard("h", "f"))
	const want = "d/ 700; d/x =2; f =1 7:0 user.k:v #1; h =1 7:0 user.k:v #1; l ->/d"
	repos := newTestRepo(t)
	repos.git("r.git", "init", "-q", "-b", "main")
	repos.commit("r.git", "a=1", "d/b=2")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/context.tar.gz":
			_, _ = w.Write(gzipped(t, archive))
		case "/Dockerfile":
			_, _ = io.WriteString(w, "FROM scratch\n")
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	for _, test := range []struct {
		name, spec, stdin, tree, dockerfile, err string
	}{
		{"tar", "-", string(archive), want, "", ""},
		{"compressed tar", "-", string(gzipped(t, archive)), want, "", ""},
		{"build file", "-", "FROM scratch\nCOPY <<f /\n", "", "FROM scratch\nCOPY <<f /\n", ""},
		{"nothing", "-", "", "", "", ""},
		{"empty tar", "-", string(make([]byte, 10240)), "", string(make([]byte, 10240)), ""},
		{"cut tar", "-", string(archive[:1600]), "", "", "unexpected EOF"},
		{"compressed something", "-", string(gzipped(t, []byte("x"))), "", "", "there is no tar in it"},
		{"too much", "-", strings.Repeat("x", maxBuildFile+1), "", "", "neither a tar nor a build file"},
		{"tar of a URL", server.URL + "/context.tar.gz", "", want, "", ""},
		{"build file of a URL", server.URL + "/Dockerfile", "", "", "FROM scratch\n", ""},
		{"missing", server.URL + "/none", "", "", "", "404 Not Found"},
		{"git", repos.url + "r.git", "", "a =1; d/; d/b =2", "", ""},
		{"git with directory", repos.url + "r.git#main:d", "", "b =2", "", ""},
		{"no ref", repos.url + "r.git#x", "", "", "", `there is no ref "x"`},
		{"directory", "/etc", "", "", "", "neither a repository nor a URL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := testLocal(t)
			o := ContextOpener{Snapshots: w.Snapshots, Layout: w.Layout}
			c, err := o.Open(context.Background(), test.spec, strings.NewReader(test.stdin))
			if err != nil {
				if test.err == "" || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %q", err, test.err)
				}
				return
			}
			if got := printTree(t, c.Tree); test.err != "" || got != test.tree || string(c.Dockerfile) != test.dockerfile {
				t.Errorf("tree %s, build file %.100q; want %s, %.100q, %q", got, c.Dockerfile, test.tree, test.dockerfile, test.err)
			}
			w.Contexts[""] = c.Tree
			if got, _, _ := runCopy(t, w, Job{}, testCopy(t, "COPY . /")); got != test.tree {
				t.Errorf("COPY . of it gives %s, want %s", got, test.tree)
			}
			check(t, c.Close())
		})
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
		for _, e := range left {
			if strings.HasPrefix(e.Name(), "forge-git-") {
				t.Errorf("%s is left behind", e.Name())
			}
		}
	}
}

func TestIsRemoteContext(t *testing.T) {
	for spec, want := range map[string]bool{
		".": false, "-": false, "/a/b.git": false, "a:b": false, "https://h/a.git#x:y": true, "https://h/x.tar": true, "git://h/x": true,
		"ssh://git@h/x": true, "git@h:x/y.git": true, "github.com/a/b": true, "./github.com/a/b": false, "C:\\x": false,
	} {
		if got := IsRemoteContext(spec); got != want {
			t.Errorf("IsRemoteContext(%q) = %v, want %v", spec, got, want)
		}
	}
}

func FuzzContextStream(f *testing.F) {
	f.Add(tarOf(f, file("a", "1")))
	f.Add([]byte("FROM scratch"))
	w := testLocal(f)
	o := ContextOpener{Snapshots: w.Snapshots, Layout: w.Layout}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := o.Open(context.Background(), "-", bytes.NewReader(b))
		if err != nil {
			return
		}
		defer c.Close() //nolint:errcheck
		if _, ok := c.Tree.(*snapshot.View); !ok && c.Dockerfile == nil {
			t.Error("neither a tree nor a build file")
		}
	})
}
