package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
	"github.com/forge-build/forge/source/sourcetest"
)

func TestAddGit(t *testing.T) {
	t.Parallel()
	long(t)
	r := sourcetest.NewRepo(t)
	r.Git("sub.git", "init", "-q", "-b", "main")
	r.Commit("sub.git", "s=sub")
	r.Git("r.git", "init", "-q", "-b", "trunk")
	first := r.Commit("r.git", "a=1", "d/b=2", "run=x", "out=->/etc")
	r.Git("r.git", "tag", "-a", "-m", "t", "v1")
	tag := r.Git("r.git", "rev-parse", "v1")
	check(t, os.Chmod(filepath.Join(r.Dir, "r.git/run"), 0o755))
	second := r.Commit("r.git", "a=changed")
	r.Git("r.git", "checkout", "-q", "-b", "side")
	r.Commit("r.git", "a=side")
	r.Git("r.git", "submodule", "add", "-q", r.URL+"sub.git", "m")
	r.Commit("r.git")
	r.Git("r.git", "checkout", "-q", "trunk")
	u := r.URL + "r.git"
	for _, test := range []struct{ do, want string }{
		{"ADD " + u + " /t", "t/; t/a =changed; t/d/; t/d/b =2; t/out ->/etc; t/run =x 755"},
		{"ADD " + u + "#trunk /", "a =changed; d/; d/b =2; out ->/etc; run =x 755"},
		{"ADD " + u + "#v1 /", "a =1; d/; d/b =2; out ->/etc; run =x"},
		{"ADD " + u + "#" + first + " /", "a =1; d/; d/b =2; out ->/etc; run =x"},
		{"ADD " + u + "#:d /t/", "t/; t/b =2"},
		{"ADD " + u + "?ref=trunk&subdir=d /t/", "t/; t/b =2"},
		{"ADD --chown=5 --chmod=600 " + u + "#v1:d /t", "t/ 600 5:5; t/b =2 600 5:5"},
		{"ADD --exclude=d " + u + "#v1 /", "a =1; out ->/etc; run =x"},
		{"ADD --checksum=" + first + " " + u + "#v1 /", "a =1; d/; d/b =2; out ->/etc; run =x"},
		{"ADD --checksum=" + tag[:10] + " " + u + "#v1:d /", "b =2"},
		{"ADD --checksum=" + first + " " + u + "#trunk /", "error: expected checksum to match " + first + ", got " + second},
		{"ADD " + u + "#none /", `error: there is no ref "none"`},
		{"ADD " + u + "#:none /", "error: sub-directory none"},
		{"ADD " + u + "#:out /", "error: sub-directory out"},
		{"ADD " + u + "#:a /", "error: sub-directory a"},
		{"ADD " + r.URL + "none.git /", "error: none.git"},
		{"ADD " + u + "?fetch-by-commit&commit=" + first + "#trunk /", "a =1; d/; d/b =2; out ->/etc; run =x"},
	} {
		w := testLocal(t)
		got, _, _ := runCopy(t, w, executor.Job{}, testCopy(t, test.do))
		if want, ok := strings.CutPrefix(test.want, "error: "); ok && (!strings.HasPrefix(got, "error") || !strings.Contains(got, want)) || !ok && got != test.want {
			t.Errorf("%s\n got %s\nwant %s", test.do, got, test.want)
		}
	}
	w := testLocal(t)
	_, layer, _ := runCopy(t, w, executor.Job{}, testCopy(t, "ADD "+u+"?tag=v1&mtime=commit /x/"))
	view, err := w.Inputs.Layers.Snapshots.View(context.Background(), []image.Layer{layer})
	check(t, err)
	e, err := view.Lstat("x/a")
	check(t, err)
	if got, want := fmt.Sprint(e.ModTime.Unix()), r.Git("r.git", "show", "-s", "--format=%ct", first); got != want {
		t.Errorf("mtime=commit gives %s, want %s", got, want)
	}
	check(t, view.Close())
	got, _, _ := runCopy(t, testLocal(t), executor.Job{}, testCopy(t, "ADD "+u+"#side /"))
	if !strings.Contains(got, "; m/; m/.git =gitdir:") || !strings.Contains(got, "; m/s =sub;") || strings.Contains(got, "; .git/") {
		t.Errorf("submodules: %s", got)
	}
	got, _, _ = runCopy(t, testLocal(t), executor.Job{}, testCopy(t, "ADD "+u+"?ref=side&submodules=false /"))
	if strings.Contains(got, "m/s") || !strings.Contains(got, "a =side") {
		t.Errorf("without submodules: %s", got)
	}
	got, _, _ = runCopy(t, testLocal(t), executor.Job{}, testCopy(t, "ADD --keep-git-dir "+u+" /"))
	if !strings.Contains(got, ".git/HEAD ="+second) || !strings.Contains(got, ".git/refs/heads/trunk ="+second) {
		t.Errorf("with .git: %.2000s", got)
	}
	got, _, _ = runCopy(t, testLocal(t), executor.Job{}, testCopy(t, "ADD --keep-git-dir "+u+"?fetch-by-commit&commit="+first+"#trunk /"))
	if !strings.Contains(got, ".git/refs/heads/trunk ="+first) || !strings.Contains(got, ".git/HEAD ="+first) {
		t.Errorf("with .git, by commit: %.2000s", got)
	}
	got, _, _ = runCopy(t, testLocal(t), executor.Job{}, testCopy(t, "ADD --keep-git-dir "+u+"#v1 /"))
	if !strings.Contains(got, ".git/refs/tags/v1 ="+tag) || !strings.Contains(got, ".git/HEAD ="+first) {
		t.Errorf("with .git of a tag: %.2000s", got)
	}
}

// TestAddGitKey holds that the key is the commit's.
func TestAddGitKey(t *testing.T) {
	t.Parallel()
	long(t)
	r := sourcetest.NewRepo(t)
	r.Git("r.git", "init", "-q", "-b", "main")
	one := r.Commit("r.git", "a=1")
	w := testLocal(t)
	key := func(address string) cache.Key {
		h, err := describe(t.Context(), w, &executor.Job{Op: testCopy(t, "ADD "+address+" /")})
		check(t, err)
		return h.Key()
	}
	u := r.URL + "r.git"
	before := key(u)
	if key(u) != before {
		t.Error("the key of an unchanged repository changed")
	}
	r.Commit("r.git", "a=2")
	if key(u) == before {
		t.Error("the key is the same after a commit")
	}
	pinned := key(u + "#" + one)
	check(t, os.RemoveAll(filepath.Join(r.Dir, "r.git")))
	if key(u+"#"+one) != pinned {
		t.Error("a commit has two keys")
	}
}

// TestAddGitPinned holds that a step is done with the commit that described it.
func TestAddGitPinned(t *testing.T) {
	t.Parallel()
	long(t)
	r := sourcetest.NewRepo(t)
	r.Git("r.git", "init", "-q", "-b", "main")
	r.Commit("r.git", "a=1")
	r.Git("r.git", "config", "uploadpack.allowAnySHA1InWant", "true")
	for _, more := range []string{"", "+refs"} {
		w := testLocal(t)
		job := executor.Job{Op: testCopy(t, "ADD "+r.URL+"r.git /")}
		_, err := describe(t.Context(), w, &job)
		check(t, err)
		before := r.Git("r.git", "show", "HEAD:a")
		r.Commit("r.git", "a=2"+more)
		if more != "" { // and the server does not give single commits away
			r.Git("r.git", "config", "uploadpack.allowAnySHA1InWant", "false")
		}
		result, err := w.Do(t.Context(), job, nil)
		check(t, err)
		view, err := w.Inputs.Layers.Snapshots.View(t.Context(), []image.Layer{result.Layer})
		check(t, err)
		if got, want := sourcetest.Print(t, view), "a ="+before; got != want {
			t.Errorf("the branch moved while the build ran: got %s, want %s", got, want)
		}
		check(t, view.Close())
	}
}

// TestGitHostile holds that a repository runs nothing here.
func TestGitHostile(t *testing.T) {
	long(t)
	r := sourcetest.NewRepo(t)
	mark := filepath.Join(t.TempDir(), "mark")
	r.Git("r.git", "init", "-q", "-b", "main")
	r.Commit("r.git", "a=1", ".gitattributes=a filter=evil\n",
		".gitmodules=[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c 'touch "+mark+"'\n\tupdate = !touch "+mark+"\n")
	r.Git("r.git", "update-index", "--add", "--cacheinfo", "160000,"+r.Git("r.git", "rev-parse", "HEAD")+",x")
	r.Git("r.git", "commit", "-q", "-m", "x")
	home := t.TempDir()
	check(t, os.WriteFile(filepath.Join(home, ".gitconfig"), []byte("[filter \"evil\"]\n\tsmudge = touch "+mark+"\n[core]\n\tfsmonitor = touch "+mark+"\n"), 0o644))
	t.Setenv("HOME", home)
	t.Setenv("GIT_EXTERNAL_DIFF", "touch "+mark)
	t.Setenv("GIT_SSH_COMMAND", "touch "+mark)
	got, _, _ := runCopy(t, testLocal(t), executor.Job{}, testCopy(t, "ADD "+r.URL+"r.git /"))
	if !strings.HasPrefix(got, "error: ") {
		t.Errorf("a submodule over ext:: was accepted: %s", got)
	}
	got, _, _ = runCopy(t, testLocal(t), executor.Job{}, testCopy(t, "ADD "+r.URL+"r.git?submodules=false /"))
	if !strings.Contains(got, "a =1") {
		t.Errorf("without submodules: %s", got)
	}
	if _, err := os.Lstat(mark); err == nil {
		t.Error("something of the repository or of the user's configuration ran")
	}
	local := source.Git{GitRef: planner.GitRef{Remote: filepath.Join(r.Dir, "r.git")}}
	if _, err := local.Resolve(context.Background()); err == nil {
		t.Error("a directory of this machine was taken for a repository")
	}
}
