package executor

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
)

func TestParseGit(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"https://h/a/b.git", "https://h/a/b.git  . sub"},
		{"https://h/b.git#main", "https://h/b.git main . sub"},
		{"https://h/b.git#main:d/e", "https://h/b.git main d/e sub"},
		{"https://h/b.git#:d", "https://h/b.git  d sub"},
		{"https://h/b.git#:../../d", "https://h/b.git  d sub"},
		{"https://h/b.git?ref=main&subdir=d", "https://h/b.git main d sub"},
		{"https://h/b.git?tag=v1", "https://h/b.git refs/tags/v1 . sub"},
		{"https://h/b.git?branch=x&submodules=false", "https://h/b.git refs/heads/x ."},
		{"https://h/b.git?keep-git-dir&checksum=abc", "https://h/b.git  . sub keep abc"},
		{"https://h/b.git?ref=main#main", "https://h/b.git main . sub"},
		{"git@h:a/b.git#x", "git@h:a/b.git x . sub"},
		{"ssh://git@h/b.git", "ssh://git@h/b.git  . sub"},
		{"git://h/b", "git://h/b  . sub"},
		{"github.com/a/b", "https://github.com/a/b  . sub"},
		{"https://h/b.git?ref=a#b", `error: ref conflicts: "b" vs "a"`},
		{"https://h/b.git?what=1", `error: unexpected query "what"`},
		{"https://h/b.git?ref=", `error: query "ref" has no value`},
		{"https://h/b.git?ref=a&ref=b", `error: query "ref" has multiple values`},
		{"https://h/b.git?tag=a&branch=b", "error: ref conflicts"},
		{"https://h/b.git?keep-git-dir=x", `error: invalid keep-git-dir value: "x"`},
		{"file:///etc/b.git", "error: not spoken"},
		{"ext::sh -c id", "error: not the address"},
		{"--upload-pack=id@h:x", "error: not the address"},
		{"https://h/b.git#--upload-pack=id", "error: not valid"},
		{"https://h/b.git#a b", "error: not valid"},
		{"https://h/b.git?checksum=xyz", "error: invalid checksum"},
		{"./b.git", "error: not the address"},
	} {
		g, err := parseGit(test.in)
		if err == nil {
			err = g.check()
		}
		got := strings.Join([]string{g.remote, g.ref, g.subdir}, " ")
		if g.submodules {
			got += " sub"
		}
		if g.keepGitDir != nil {
			got += " keep"
		}
		if g.checksum != "" {
			got += " " + g.checksum
		}
		if err != nil {
			got = "error: " + err.Error()
		}
		if want, ok := strings.CutPrefix(test.want, "error: "); ok && (err == nil || !strings.Contains(got, want)) || !ok && got != test.want {
			t.Errorf("parseGit(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

// A testRepo is a repository and the server that gives it away, on the loopback interface.
type testRepo struct {
	t   *testing.T
	dir string // of the repositories
	url string // of dir
}

func newTestRepo(t *testing.T) *testRepo {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	check(t, l.Close())
	r := &testRepo{t: t, dir: t.TempDir(), url: fmt.Sprintf("git://127.0.0.1:%d/", port)}
	cmd := exec.Command("git", "daemon", "--reuseaddr", "--listen=127.0.0.1", fmt.Sprint("--port=", port), "--export-all", "--base-path="+r.dir, r.dir)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait()
	})
	for range 100 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = c.Close()
			return r
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Skip("git daemon does not start")
	return nil
}

// git runs git in the repository called name.
func (r *testRepo) git(name string, args ...string) string {
	r.t.Helper()
	dir := filepath.Join(r.dir, name)
	check(r.t, os.MkdirAll(dir, 0o755))
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files and commits them; it returns the commit.
func (r *testRepo) commit(name string, files ...string) string {
	r.t.Helper()
	for _, f := range files {
		p, content, _ := strings.Cut(f, "=")
		p = filepath.Join(r.dir, name, p)
		check(r.t, os.MkdirAll(filepath.Dir(p), 0o755))
		if target, ok := strings.CutPrefix(content, "->"); ok {
			check(r.t, os.Symlink(target, p))
			continue
		}
		check(r.t, os.WriteFile(p, []byte(content), 0o644))
	}
	r.git(name, "add", "-A")
	r.git(name, "commit", "-q", "-m", "x")
	return r.git(name, "rev-parse", "HEAD")
}

func TestAddGit(t *testing.T) {
	r := newTestRepo(t)
	r.git("sub.git", "init", "-q", "-b", "main")
	r.commit("sub.git", "s=sub")
	r.git("r.git", "init", "-q", "-b", "trunk")
	first := r.commit("r.git", "a=1", "d/b=2", "run=x", "out=->/etc")
	r.git("r.git", "tag", "-a", "-m", "t", "v1")
	tag := r.git("r.git", "rev-parse", "v1")
	check(t, os.Chmod(filepath.Join(r.dir, "r.git/run"), 0o755))
	second := r.commit("r.git", "a=changed")
	r.git("r.git", "checkout", "-q", "-b", "side")
	r.commit("r.git", "a=side")
	r.git("r.git", "submodule", "add", "-q", r.url+"sub.git", "m")
	r.commit("r.git")
	r.git("r.git", "checkout", "-q", "trunk")
	u := r.url + "r.git"
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
		{"ADD " + r.url + "none.git /", "error: none.git"},
		{"COPY " + u + " /", "error: source can't be a git ref for COPY"},
	} {
		w := testLocal(t)
		got, _, _ := runCopy(t, w, Job{}, testCopy(t, test.do))
		if want, ok := strings.CutPrefix(test.want, "error: "); ok && (!strings.HasPrefix(got, "error") || !strings.Contains(got, want)) || !ok && got != test.want {
			t.Errorf("%s\n got %s\nwant %s", test.do, got, test.want)
		}
	}
	w := testLocal(t)
	_, layer, _ := runCopy(t, w, Job{}, testCopy(t, "ADD "+u+"?tag=v1&mtime=commit /x/"))
	view, err := w.Snapshots.View(context.Background(), []image.Layer{layer})
	check(t, err)
	e, err := view.Lstat("x/a")
	check(t, err)
	if got, want := fmt.Sprint(e.ModTime.Unix()), r.git("r.git", "show", "-s", "--format=%ct", first); got != want {
		t.Errorf("mtime=commit gives %s, want %s", got, want)
	}
	check(t, view.Close())
	got, _, _ := runCopy(t, testLocal(t), Job{}, testCopy(t, "ADD "+u+"#side /"))
	if !strings.Contains(got, "; m/; m/.git =gitdir:") || !strings.Contains(got, "; m/s =sub;") || strings.Contains(got, "; .git/") {
		t.Errorf("submodules: %s", got)
	}
	got, _, _ = runCopy(t, testLocal(t), Job{}, testCopy(t, "ADD "+u+"?ref=side&submodules=false /"))
	if strings.Contains(got, "m/s") || !strings.Contains(got, "a =side") {
		t.Errorf("without submodules: %s", got)
	}
	got, _, _ = runCopy(t, testLocal(t), Job{}, testCopy(t, "ADD --keep-git-dir "+u+" /"))
	if !strings.Contains(got, ".git/HEAD ="+second) || !strings.Contains(got, ".git/refs/heads/trunk ="+second) {
		t.Errorf("with .git: %.2000s", got)
	}
	got, _, _ = runCopy(t, testLocal(t), Job{}, testCopy(t, "ADD --keep-git-dir "+u+"#v1 /"))
	if !strings.Contains(got, ".git/refs/tags/v1 ="+tag) || !strings.Contains(got, ".git/HEAD ="+first) {
		t.Errorf("with .git of a tag: %.2000s", got)
	}
}

// TestAddGitUmask holds that modes do not depend on the umask of the process.
func TestAddGitUmask(t *testing.T) {
	for mode, want := range map[uint32]uint32{0o600: 0o644, 0o700: 0o755, 0o664: 0o644, 0o777: 0o755, 0o444: 0o444} {
		if got := gitMode(syscall.S_IFREG | mode); got != syscall.S_IFREG|want {
			t.Errorf("gitMode(%o) = %o, want %o", mode, got&0o7777, want)
		}
	}
}

// TestAddGitKey holds that the key is the commit's.
func TestAddGitKey(t *testing.T) {
	r := newTestRepo(t)
	r.git("r.git", "init", "-q", "-b", "main")
	one := r.commit("r.git", "a=1")
	w := testLocal(t)
	key := func(address string) cache.Key {
		var h cache.Hash
		check(t, describe(context.Background(), w, Job{Op: testCopy(t, "ADD "+address+" /")}, nil, &h))
		return h.Key()
	}
	u := r.url + "r.git"
	before := key(u)
	if key(u) != before {
		t.Error("the key of an unchanged repository changed")
	}
	r.commit("r.git", "a=2")
	if key(u) == before {
		t.Error("the key is the same after a commit")
	}
	pinned := key(u + "#" + one)
	check(t, os.RemoveAll(filepath.Join(r.dir, "r.git")))
	if key(u+"#"+one) != pinned {
		t.Error("a commit has two keys")
	}
}

// TestAddGitPinned holds that a step is done with the commit that described it.
func TestAddGitPinned(t *testing.T) {
	r := newTestRepo(t)
	r.git("r.git", "init", "-q", "-b", "main")
	r.commit("r.git", "a=1")
	r.git("r.git", "config", "uploadpack.allowAnySHA1InWant", "true")
	for _, more := range []string{"", "+refs"} {
		w := testLocal(t)
		job := Job{Op: testCopy(t, "ADD "+r.url+"r.git /")}
		check(t, w.Describe(context.Background(), job, &cache.Hash{}))
		before := r.git("r.git", "show", "HEAD:a")
		r.commit("r.git", "a=2"+more)
		if more != "" { // and the server does not give single commits away
			r.git("r.git", "config", "uploadpack.allowAnySHA1InWant", "false")
		}
		layer, err := w.Do(context.Background(), job, nil)
		check(t, err)
		view, err := w.Snapshots.View(context.Background(), []image.Layer{layer})
		check(t, err)
		if got, want := printTree(t, view), "a ="+before; got != want {
			t.Errorf("the branch moved while the build ran: got %s, want %s", got, want)
		}
		check(t, view.Close())
	}
}

// TestGitHostile holds that a repository runs nothing here.
func TestGitHostile(t *testing.T) {
	r := newTestRepo(t)
	mark := filepath.Join(t.TempDir(), "mark")
	r.git("r.git", "init", "-q", "-b", "main")
	r.commit("r.git", "a=1", ".gitattributes=a filter=evil\n",
		".gitmodules=[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c 'touch "+mark+"'\n\tupdate = !touch "+mark+"\n")
	r.git("r.git", "update-index", "--add", "--cacheinfo", "160000,"+r.git("r.git", "rev-parse", "HEAD")+",x")
	r.git("r.git", "commit", "-q", "-m", "x")
	home := t.TempDir()
	check(t, os.WriteFile(filepath.Join(home, ".gitconfig"), []byte("[filter \"evil\"]\n\tsmudge = touch "+mark+"\n[core]\n\tfsmonitor = touch "+mark+"\n"), 0o644))
	t.Setenv("HOME", home)
	t.Setenv("GIT_EXTERNAL_DIFF", "touch "+mark)
	t.Setenv("GIT_SSH_COMMAND", "touch "+mark)
	got, _, _ := runCopy(t, testLocal(t), Job{}, testCopy(t, "ADD "+r.url+"r.git /"))
	if !strings.HasPrefix(got, "error: ") {
		t.Errorf("a submodule over ext:: was accepted: %s", got)
	}
	got, _, _ = runCopy(t, testLocal(t), Job{}, testCopy(t, "ADD "+r.url+"r.git?submodules=false /"))
	if !strings.Contains(got, "a =1") {
		t.Errorf("without submodules: %s", got)
	}
	if _, err := os.Lstat(mark); err == nil {
		t.Error("something of the repository or of the user's configuration ran")
	}
	if _, err := (&gitSource{remote: filepath.Join(r.dir, "r.git")}).resolve(context.Background()); err == nil {
		t.Error("a directory of this machine was taken for a repository")
	}
}

// TestGitSecrets holds that a password is neither in git's arguments nor in its errors.
func TestGitSecrets(t *testing.T) {
	g := &gitSource{remote: "http://ali:sesame@127.0.0.1:1/x.git"}
	_, err := g.resolve(context.Background())
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("the password is in an error: %v", err)
	}
	if got := g.secretEnv(); len(got) != 3 || got[2] != "GIT_CONFIG_VALUE_0=http://127.0.0.1:1/x.git" {
		t.Errorf("environment %q", got)
	}
}

func FuzzParseGit(f *testing.F) {
	for _, s := range []string{"https://h/b.git#main:d", "git@h:x", "https://h/b.git?ref=a&subdir=../x", "ssh://-oProxyCommand=x/y.git"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		g, err := parseGit(s)
		if err != nil || g.check() != nil {
			return
		}
		if strings.HasPrefix(g.remote, "-") || strings.HasPrefix(g.ref, "-") || strings.HasPrefix(g.subdir, "/") || strings.HasPrefix(g.subdir, "..") {
			t.Errorf("parseGit(%q) = %+v", s, g)
		}
	})
}
