package sourcetest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Repo is a repository and the server that gives it away, on the loopback interface.
type Repo struct {
	t   testing.TB
	Dir string // of the repositories
	URL string // of Dir
}

// NewRepo starts a git daemon for the repositories of a temporary directory.
func NewRepo(t testing.TB) *Repo {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	check(t, l.Close())
	r := &Repo{t: t, Dir: t.TempDir(), URL: fmt.Sprintf("git://127.0.0.1:%d/", port)}
	cmd := exec.Command("git", "daemon", "--reuseaddr", "--listen=127.0.0.1", fmt.Sprint("--port=", port), "--export-all", "--base-path="+r.Dir, r.Dir)
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

// Git runs git in the repository called name.
func (r *Repo) Git(name string, args ...string) string {
	r.t.Helper()
	dir := filepath.Join(r.Dir, name)
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

// Commit writes files and commits them; it returns the commit.
func (r *Repo) Commit(name string, files ...string) string {
	r.t.Helper()
	for _, f := range files {
		p, content, _ := strings.Cut(f, "=")
		p = filepath.Join(r.Dir, name, p)
		check(r.t, os.MkdirAll(filepath.Dir(p), 0o755))
		if target, ok := strings.CutPrefix(content, "->"); ok {
			check(r.t, os.Symlink(target, p))
			continue
		}
		check(r.t, os.WriteFile(p, []byte(content), 0o644))
	}
	r.Git(name, "add", "-A")
	r.Git(name, "commit", "-q", "-m", "x")
	return r.Git(name, "rev-parse", "HEAD")
}
