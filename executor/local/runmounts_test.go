package local

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/planner"
)

func input(read int) *planner.Input { return &planner.Input{Read: read} }

func mainContext() *planner.Input { return &planner.Input{Read: -1} }

func TestRunMountBindStage(t *testing.T) {
	t.Parallel()
	long(t)
	h := newRunHome(t)
	build := func(script string, mounts ...planner.Mount) (*executor.Image, string, error) {
		g, base := h.on()
		on := g.add(sh("mkdir /a; ln -s /a /l"), base)
		from := g.add(sh("mkdir -p /a/b; echo f > /a/b/f; rm /l; ln -s /a/b /l; ln -s /etc/passwd /a/out; echo no > /a/b/passwd"), on)
		return h.build(g.graph(g.add(sh(script, mounts...), on, from)))
	}
	bind := func(source, target string) planner.Mount {
		return planner.Mount{Type: planner.Bind, Target: target, From: input(0), Source: source, ReadOnly: true}
	}
	rw := bind("/a", "/m")
	rw.ReadOnly = false
	inner := bind("/a/b/f", "/m/b/f2")
	inRW := bind("/a/b/f", "/m/new/f")
	linked := bind("/a", "/l/b")
	linked.ReadOnly = false
	inLinked := bind("/a/b/f", "/a/b/new/f")
	for _, test := range []struct {
		name   string
		script string
		mounts []planner.Mount
		want   string
		err    string
	}{
		{"directory", "cat /m/b/f; ls /m", []planner.Mount{bind("/a", "/m")}, "f\nb\nout", ""},
		{"all", "cat /m/a/b/f", []planner.Mount{bind("/", "/m")}, "f", ""},
		{"file", "cat /m; ls -d /m", []planner.Mount{bind("/a/b/f", "/m")}, "f\n/m", ""},
		{"through a link", "cat /m/f", []planner.Mount{bind("/l", "/m")}, "f", ""},
		{"a link to a file of that root", "grep -c me /m", []planner.Mount{bind("/a/out", "/m")}, "1", ""},
		{"out of the root", "ls /m", []planner.Mount{bind("/../../a", "/m")}, "b\nout", ""},
		{"read-only", "{ echo x > /m/x; } 2>/dev/null || echo cannot", []planner.Mount{bind("/a", "/m")}, "cannot", ""},
		{"read-write", "echo x > /m/x; cat /m/x", []planner.Mount{rw}, "x", ""},
		{"missing", "true", []planner.Mount{bind("/nonesuch", "/m")}, "", "source /nonesuch"},
		{"one in another, read-only", "true", []planner.Mount{bind("/a", "/m"), inner}, "", "read-only mount of /m"},
		{"one in another, in any order", "cat /m/new/f", []planner.Mount{inRW, rw}, "f", ""},
		{"one in another, through a link", "cat /a/b/new/f", []planner.Mount{linked, inLinked}, "f", ""},
		{"on what is there", "cat /etc/passwd", []planner.Mount{bind("/a/b/passwd", "/etc/passwd")}, "no", ""},
	} {
		r, out, err := build(test.script, test.mounts...)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error = %v, want %q", test.name, err, test.err)
			}
			continue
		}
		if err != nil || out != test.want {
			t.Errorf("%s: printed %q, %v, want %q", test.name, out, err, test.want)
			continue
		}
		if got := h.names(last(r)); got != "" {
			t.Errorf("%s: layer has %q", test.name, got)
		}
	}
}

func TestRunMountBindIsKeyedByContent(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	build := func(content, other string) *executor.Image {
		g, on := h.on()
		from := g.add(sh("mkdir /a; echo "+content+" > /a/f; echo "+other+" > /b"), on)
		m := planner.Mount{Type: planner.Bind, Target: "/m", From: input(0), Source: "/a", ReadOnly: true}
		r, out, err := h.build(g.graph(g.add(sh("cat /m/f", m), on, from)))
		if err != nil {
			t.Fatal(err, out)
		}
		return r
	}
	build("one", "x")
	if r := build("one", "y"); r.Done != 1 {
		t.Errorf("done %d, want 1: another file than those that are mounted changed", r.Done)
	}
	if r := build("two", "y"); r.Done != 2 {
		t.Errorf("done %d, want 2: a file that is mounted changed", r.Done)
	}
}

func TestRunMountBindContext(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	h.context("", map[string]string{"src/a": "A\n", "src/secret": "S\n", "b": "B\n"}, "**/secret")
	h.context("other", map[string]string{"o": "O\n"})
	bind := func(source string) planner.Mount {
		return planner.Mount{Type: planner.Bind, Target: "/m", From: mainContext(), Source: source, ReadOnly: true}
	}
	other := bind("/")
	other.From = &planner.Input{Read: -1, Context: "other"}
	rw := bind("/src")
	rw.ReadOnly = false
	for _, test := range []struct {
		name, script string
		mount        planner.Mount
		want         string
	}{
		{"all", "cd /m; find . | sort; stat -c %u:%g src", bind("."), ".\n./b\n./src\n./src/a\n0:0"},
		{"directory", "cat /m/a; ls /m", bind("/src"), "A\na"},
		{"file", "cat /m", bind("b"), "B"},
		{"named", "cat /m/o", other, "O"},
		{"read-write", "rm /m/a; ls /m | wc -l", rw, "0"},
	} {
		if got := h.prints(sh(test.script, test.mount)); got != test.want {
			t.Errorf("%s: printed %q, want %q", test.name, got, test.want)
		}
	}
	if _, _, err := h.do(sh("true", bind("/src/secret"))); err == nil {
		t.Error("a file that is ignored was mounted")
	}
	if r, _, err := h.do(sh("cat /m/a; ls /m", bind("/src"))); err != nil || r.Reused != 1 {
		t.Errorf("reused %d, %v, want 1", r.Reused, err)
	}
	h.context("", map[string]string{"src/a": "changed\n"})
	if got := h.prints(sh("cat /m/a; ls /m", bind("/src"))); got != "changed\na" {
		t.Errorf("after a change printed %q", got)
	}
}

func TestRunMountTmpfs(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	small := planner.Mount{Type: planner.Tmpfs, Target: "/t", Size: 1 << 20}
	if got := h.prints(sh("grep ' /t ' /proc/mounts | cut -d' ' -f3; stat -c %a /t; dd if=/dev/zero of=/t/x bs=1M count=2 2>/dev/null || echo full", small)); got != "tmpfs\n1777\nfull" {
		t.Errorf("printed %q", got)
	}
	cache := planner.Mount{Type: planner.Cache, Target: "/t/in/c", ID: "c"}
	r, out, err := h.do(sh("stat -c %a /t; touch /t/x /t/in/c/y; ls /t/in", cache, small))
	if err != nil || out != "1777\nc" {
		t.Fatalf("with a cache in it printed %q, %v", out, err)
	}
	if got := h.names(last(r)); got != "" {
		t.Errorf("layer has %q", got)
	}
}

func TestRunMountCache(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	mode := uint32(0o700)
	cache := planner.Mount{Type: planner.Cache, Target: "/c", ID: "one", Sharing: "shared"}
	if got := h.prints(sh("stat -c '%a %u:%g' /c; echo a > /c/f; ls /c", cache)); got != "755 0:0\nf" {
		t.Errorf("a new cache printed %q", got)
	}
	other := cache
	other.Target, other.Sharing = "/elsewhere", "locked"
	if got := h.prints(sh("cat /elsewhere/f; rm -r /elsewhere/*", other)); got != "a" {
		t.Errorf("a second step printed %q", got)
	}
	private := planner.Mount{Type: planner.Cache, Target: "/p", ID: "two", Sharing: "private", Access: planner.Access{Mode: &mode, UID: 5, GID: 6}}
	if got := h.prints(sh("stat -c '%a %u:%g' /p", private)); got != "700 5:6" && !oneID(t) {
		t.Errorf("mode and owner: printed %q", got)
	}
	ro := planner.Mount{Type: planner.Cache, Target: "/p", ID: "two", ReadOnly: true}
	if got := h.prints(sh("touch /p/x 2>/dev/null || echo cannot", ro)); got != "cannot" {
		t.Errorf("read-only: printed %q", got)
	}

	g, on := h.on()
	from := g.add(sh("mkdir -m 750 /seed; echo s > /seed/f; chmod 4711 /seed/f; ln -s f /seed/l"), on)
	seeded := planner.Mount{Type: planner.Cache, Target: "/c", ID: "three", From: input(0), Source: "/seed"}
	if _, out, err := h.build(g.graph(g.add(sh("stat -c %a /c /c/f; readlink /c/l; echo more >> /c/f", seeded), on, from))); err != nil || out != "750\n4711\nf" {
		t.Errorf("a seeded cache printed %q, %v", out, err)
	}
	g, on = h.on()
	from = g.add(sh("mkdir -m 750 /seed; echo s > /seed/f; chmod 4711 /seed/f; ln -s f /seed/l"), on)
	if _, out, err := h.build(g.graph(g.add(sh("cat /c/f", seeded), on, from))); err != nil || out != "s\nmore" {
		t.Errorf("the second time it printed %q, %v", out, err)
	}
	g, on = h.on()
	from = g.add(sh("mkdir -m 750 /seed; echo other > /seed/f"), on)
	if _, out, err := h.build(g.graph(g.add(sh("cat /c/f", seeded), on, from))); err != nil || out != "other" {
		t.Errorf("with another seed it printed %q, %v", out, err)
	}
	owned := cache
	owned.UID = 5
	if got := h.prints(sh("echo x >/c/mine; stat -c %u /c; ls /c", owned)); got != "5\nmine" && !oneID(t) {
		t.Errorf("with another owner it printed %q", got)
	}
	h.worker.Containers.CacheDir = ""
	if _, _, err := h.do(sh("echo", cache)); err == nil {
		t.Error("a cache without a place was mounted")
	}
}

func TestRunMountCacheSharing(t *testing.T) {
	t.Parallel()
	long(t)
	h := newRunHome(t)
	// Two steps leave marks. Those that share wait until they see both; the others look for a while and must not.
	const meet = "touch /c/$N; until [ -e /c/one ] && [ -e /c/two ]; do sleep 0.01; done; echo met"
	const avoid = "touch /c/$N; sleep 0.3; ls /c | wc -l | grep -q 1 || echo met; rm /c/$N"
	for _, test := range []struct{ sharing, script, want string }{
		{"shared", meet, "met\nmet"}, {"locked", avoid, ""}, {"private", avoid, ""},
	} {
		m := planner.Mount{Type: planner.Cache, Target: "/c", ID: test.sharing, Sharing: test.sharing}
		g, on := h.on()
		var both []*planner.Step
		for _, n := range []string{"one", "two"} {
			op := sh(test.script, m)
			op.Env = append(op.Env, "N="+n)
			both = append(both, g.add(op, on))
		}
		if _, out, err := h.build(g.graph(g.add(sh("true"), both[0], both[1]))); err != nil || out != test.want {
			t.Errorf("%s: printed %q, %v, want %q", test.sharing, out, err, test.want)
		}
	}
	dirs, err := filepath.Glob(filepath.Join(h.dir, "mounts", "*", "id"))
	if err != nil || len(dirs) != 4 { // the private one has two
		t.Errorf("caches are %v, %v, want 4", dirs, err)
	}
}

func TestCacheSurvivesPrune(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	cache := planner.Mount{Type: planner.Cache, Target: "/c", ID: "one", Sharing: "shared"}
	g, on := h.on()
	s := g.add(sh("echo ready; sleep 0.3; touch /c/x", cache), on)
	o := h.options()
	o.Events = func(e event.Event) {
		if e.Text != "ready" {
			return
		}
		locks, _ := filepath.Glob(filepath.Join(h.dir, "mounts", "*", "lock"))
		if len(locks) != 1 {
			t.Errorf("locks = %v", locks)
			return
		}
		f := must1(os.Open(locks[0]))(t)
		defer f.Close()
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			t.Error("a cache that is in use could be locked by who would remove it")
		}
	}
	if _, err := buildOne(t.Context(), g.graph(s), o); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "mounts")); err != nil {
		t.Fatal(err)
	}
	if got := h.prints(sh("ls /c | wc -l", cache)); got != "0" {
		t.Errorf("after a prune printed %q", got)
	}
}

func TestRunMountSecret(t *testing.T) {
	h := newRunHome(t)
	file := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(file, []byte("hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MY_SECRET", "whisper")
	h.worker.Containers.Secrets = []container.Secret{{ID: "f", File: file}, {ID: "e", Env: "MY_SECRET"}, {ID: "gone", File: file + "x"}}
	secret := func(id string) planner.Mount {
		return planner.Mount{Type: planner.Secret, ID: id, Target: "/run/secrets/" + id}
	}
	mode := uint32(0o440)
	owned := secret("f")
	owned.Mode, owned.UID, owned.GID = &mode, 1000, 1001
	variable := planner.Mount{Type: planner.Secret, ID: "e", Env: "S"}
	required := secret("none")
	required.Required = true
	for _, test := range []struct {
		name, script string
		mount        planner.Mount
		want, err    string
	}{
		{"file", "cat /run/secrets/f; echo; stat -c '%a %u:%g' /run/secrets/f; grep -c 'secrets/f tmpfs ro' /proc/mounts", secret("f"), "hush\n400 0:0\n1", ""},
		{"of a user", "stat -c '%a %u:%g' /run/secrets/f", owned, "440 1000:1001", ""},
		{"from a variable", "cat /run/secrets/e", secret("e"), "whisper", ""},
		{"as a variable", "echo $S; test -e /run/secrets || echo nothing", variable, "whisper\nnothing", ""},
		{"not given", "test -e /run/secrets || echo nothing", secret("none"), "nothing", ""},
		{"required and not given", "true", required, "", "required and not given"},
		{"given and not there", "true", secret("gone"), "", "no such file"},
	} {
		r, out, err := h.do(sh(test.script, test.mount))
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error = %v, want %q", test.name, err, test.err)
			}
			continue
		}
		if test.mount.UID != 0 && oneID(t) {
			test.want = "440 0:0"
		}
		if err != nil || out != test.want {
			t.Errorf("%s: printed %q, %v, want %q", test.name, out, err, test.want)
			continue
		}
		if got := h.names(last(r)); got != "" {
			t.Errorf("%s: layer has %q", test.name, got)
		}
	}
	for _, base := range []string{"/dev/shm", "/run", "/tmp", os.Getenv("XDG_RUNTIME_DIR")} {
		if left, _ := filepath.Glob(filepath.Join(base, ".forge-secret-*")); base != "" && len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if found := grepTree(t, h.dir, "hush"); len(found) > 0 {
		t.Errorf("the secret is in %v", found)
	}
}

// grepTree names the files that contain text.
func grepTree(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // drafts are deleted in the background
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if strings.Contains(string(data), text) && !strings.Contains(string(data), "BusyBox") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestRunMountSSH(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	_, key, err := ed25519.GenerateKey(nil)
	block := must1(ssh.MarshalPrivateKey(key, ""))(t)
	path := filepath.Join(t.TempDir(), "id_test")
	if err = errors.Join(err, os.WriteFile(path, pem.EncodeToMemory(block), 0o600)); err != nil {
		t.Fatal(err)
	}
	h.worker.Containers.SSH = []container.SSHSource{{ID: "default", Paths: []string{path}}, {ID: "other", Paths: []string{path}}}
	mode := uint32(0o660)
	first := planner.Mount{Type: planner.SSH, ID: "default", Target: "/run/buildkit/ssh_agent.0"}
	second := planner.Mount{Type: planner.SSH, ID: "other", Target: "/run/buildkit/ssh_agent.1", Access: planner.Access{Mode: &mode, UID: 5}}
	r, out, err := h.do(sh("echo $SSH_AUTH_SOCK; cd /run/buildkit; stat -c '%F %a %u:%g' *", first, second))
	want := "/run/buildkit/ssh_agent.0\nsocket 600 0:0\nsocket 660 5:0"
	if oneID(t) {
		want = strings.Replace(want, "5:0", "0:0", 1)
	}
	if err != nil || out != want {
		t.Fatalf("printed %q, %v, want %q", out, err, want)
	}
	if got := h.names(last(r)); got != "" {
		t.Errorf("layer has %q", got)
	}
	absent := planner.Mount{Type: planner.SSH, ID: "none", Target: "/run/buildkit/ssh_agent.0"}
	if got := h.prints(sh("echo ${SSH_AUTH_SOCK:-none}", absent)); got != "none" {
		t.Errorf("without the agent printed %q", got)
	}
	absent.Required = true
	if _, _, err := h.do(sh("true", absent)); err == nil || !strings.Contains(err.Error(), "required and not given") {
		t.Errorf("error = %v", err)
	}
}
