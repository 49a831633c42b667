package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forge-build/forge/planner"
)

// fakeGit puts a script in the place of git.
func fakeGit(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "git"), []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestGitTalks holds that what a server has git print takes no more memory than the end of it does, and that an answer has a limit.
func TestGitTalks(t *testing.T) {
	g := &Git{planner.GitRef{Remote: "https://example.invalid/r.git"}}
	for _, test := range []struct{ name, script, want string }{
		{"few", "echo remote: no >&2; echo fatal: gone >&2; exit 1", "remote: no\nfatal: gone"},
		{"many lines", "head -c 20000000 /dev/zero | tr '\\0' '\\n' >&2; printf 'fatal: gone' >&2; exit 1", "fatal: gone"},
		{"a long line", "echo first >&2; head -c 20000000 /dev/zero | tr '\\0' x >&2; printf '\\nfatal: gone' >&2; exit 1", "fatal: gone"},
		{"a long answer", "exec head -c 20000000 /dev/zero", "git ls-remote prints more than 16 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fakeGit(t, test.script)
			if _, err := g.Resolve(t.Context()); err == nil || err.Error() != g.Remote+": "+test.want {
				t.Errorf("%.200v, want %q", err, test.want)
			}
		})
	}
	text := gitText{most: 20, end: true}
	for _, line := range []string{"https://user:secret@example.invalid\n", strings.Repeat("fetching\n", 10), "fatal: gone\n"} {
		for range 1000 {
			n, err := text.Write([]byte(line))
			must(t, err)
			if n != len(line) || len(text.kept) > 2*text.most {
				t.Fatalf("%d bytes of %q were written, %d kept", n, line, len(text.kept))
			}
		}
		if got, whole := text.String(), line[strings.LastIndexByte(line[:len(line)-1], '\n')+1:]; len(got) > text.most || strings.ReplaceAll(got, whole, "") != "" {
			t.Errorf("the end is %.100q, want no part of a line", got)
		}
	}
}
