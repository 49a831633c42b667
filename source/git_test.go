package source

import (
	"context"
	"strings"
	"syscall"
	"testing"
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
	g := &Git{remote: "http://ali:sesame@127.0.0.1:1/x.git"}
	_, err := g.Resolve(context.Background())
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

// long is for tests that take more than a moment: go test -short leaves them out.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}
