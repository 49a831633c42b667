package source

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-build/forge/planner"
)

// TestGitUmask holds that modes do not depend on the umask of the process.
func TestGitUmask(t *testing.T) {
	for mode, want := range map[uint32]uint32{0o600: 0o644, 0o700: 0o755, 0o664: 0o644, 0o777: 0o755, 0o444: 0o444} {
		if got := gitMode(syscall.S_IFREG | mode); got != syscall.S_IFREG|want {
			t.Errorf("gitMode(%o) = %o, want %o", mode, got&0o7777, want)
		}
	}
}

// TestGitSecrets holds that a password is neither in git's arguments nor in its errors.
func TestGitSecrets(t *testing.T) {
	g := &Git{planner.GitRef{Remote: "http://ali:sesame@127.0.0.1:1/x.git"}}
	_, err := g.Resolve(context.Background())
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("the password is in an error: %v", err)
	}
	if got := g.secretEnv(); len(got) != 3 || got[2] != "GIT_CONFIG_VALUE_0=http://127.0.0.1:1/x.git" {
		t.Errorf("environment %q", got)
	}
}

// long is for tests that take more than a moment: go test -short leaves them out.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}
