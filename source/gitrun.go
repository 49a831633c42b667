package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// git runs the git program of this machine in dir, without the configuration of the machine or the user, and returns
// what it prints. It never asks anybody anything, runs no hooks, and takes nothing from this machine's file system for
// a repository unless the address itself is one.
func (g *Git) git(ctx context.Context, dir string, args ...string) (string, error) {
	settings := []string{
		"protocol.allow=never", "protocol.https.allow=always", "protocol.http.allow=always", "protocol.ssh.allow=always",
		"protocol.git.allow=always", "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.symlinks=true",
		"core.sshCommand=ssh -F /dev/null -o StrictHostKeyChecking=accept-new -o BatchMode=yes", "credential.helper=",
		"advice.detachedHead=false", "safe.directory=*", "http.followRedirects=initial", "gc.auto=0", "init.templateDir=", "core.autocrlf=false",
	}
	var all []string
	for _, s := range settings {
		all = append(all, "-c", s)
	}
	cmd := exec.CommandContext(ctx, "git", append(all, args...)...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(gitEnv(), g.secretEnv()...)
	stdout, stderr := gitText{most: 16 << 20}, gitText{most: 64 << 10, end: true}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A group of its own, so that the helpers of git end with it. When this process is killed, git is, too, and its helpers have nobody
	// left to talk to; the kernel sees that by the death of the thread that starts git.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.String(), nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return "", errNoGit
	case stdout.cut:
		return "", fmt.Errorf("git %s prints more than %d MiB", args[0], stdout.most>>20)
	}
	if text := strings.TrimSpace(stderr.String()); text != "" {
		return "", errors.New(web.RedactText(text))
	}
	return "", err
}

// secretEnv has git put name and password into the address itself, where neither a list of processes nor a kept .git
// shows them.
func (g *Git) secretEnv() []string {
	bare := web.WithoutLogin(g.Remote)
	if bare == g.Remote {
		return nil
	}
	return []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url." + g.Remote + ".insteadOf", "GIT_CONFIG_VALUE_0=" + bare}
}

// gitEnv is what else is in the environment of git.
func gitEnv() []string {
	env := []string{
		"LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false", "SSH_ASKPASS=/bin/false", "HOME=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1", "GIT_PROTOCOL_FROM_USER=0", "GIT_LFS_SKIP_SMUDGE=1",
	}
	for _, name := range []string{
		"PATH", "SSH_AUTH_SOCK", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
		"http_proxy", "https_proxy", "no_proxy", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO",
	} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	// Not every git was built with a TLS that reads SSL_CERT_FILE, as Go's does.
	if file := os.Getenv("SSL_CERT_FILE"); file != "" && os.Getenv("GIT_SSL_CAINFO") == "" {
		env = append(env, "GIT_SSL_CAINFO="+file)
	}
	return env
}

// whileSpace returns a context that ends when the layout's file system is about to be full, as what git writes passes no writer of ours.
// The function stop gives back what it takes.
func whileSpace(ctx context.Context, layout *image.Layout) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := layout.CheckSpace(); err != nil {
					cancel(err)
				}
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// A gitText is what git prints, most bytes of it: a server has it print what it likes.
type gitText struct {
	kept []byte
	most int
	end  bool // the last bytes are kept; else more than most is an error
	cut  bool // there was more
}

// Write implements io.Writer.
func (t *gitText) Write(p []byte) (int, error) {
	if !t.end && len(t.kept)+len(p) > t.most {
		t.cut = true
		return 0, io.ErrShortBuffer
	}
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*t.most {
		t.shorten()
	}
	return len(p), nil
}

func (t *gitText) shorten() {
	if more := len(t.kept) - t.most; more > 0 {
		t.kept, t.cut = t.kept[:copy(t.kept, t.kept[more:])], true
	}
}

// String is what was kept, from the beginning of a line: half an address could show half a password.
func (t *gitText) String() string {
	t.shorten()
	if t.cut {
		_, rest, _ := bytes.Cut(t.kept, []byte{'\n'})
		return string(rest)
	}
	return string(t.kept)
}
