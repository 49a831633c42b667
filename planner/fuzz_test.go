package planner

import (
	"errors"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/forge-build/forge/parser"
)

// FuzzPlan plans whatever can be parsed. It must not panic, an error must have its place, and a graph must be one.
func FuzzPlan(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range paths {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name == "Dockerfile" {
				f.Add(file.Data, "A", "value")
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, arg, value string) {
		file, err := parser.Parse("Dockerfile", text, parser.Options{})
		if err != nil {
			needPlace(t, err, text)
			return
		}
		g, err := Plan(t.Context(), file, Options{
			Resolver: &images{}, BuildPlatform: amd64, BuildArgs: map[string]string{arg: value},
			Allow:    []string{"network.host", "security.insecure", "device"},
			Contexts: map[string]Context{"files": {Tree: true}},
		})
		if err != nil {
			needPlace(t, err, text)
			return
		}
		if len(g.Steps) > 0 {
			checkGraph(t, g)
		}
		for _, s := range g.Steps {
			checkPaths(t, s)
		}
	})
}

func needPlace(t *testing.T, err error, text []byte) {
	e, ok := errors.AsType[*parser.Error](err)
	if !ok || e.Span.Start < 1 || e.Err.Error() == "" {
		t.Errorf("%q: error without a place: %#v", text, err)
	}
}

// checkPaths tests that what is said to be absolute and clean is.
func checkPaths(t *testing.T, s *Step) {
	clean := func(p string) {
		if !path.IsAbs(p) || path.Clean(p) != p {
			t.Errorf("%s: %q is not absolute and clean", s.Name, p)
		}
	}
	switch op := s.Op.(type) {
	case *Mkdir:
		clean(op.Path)
	case *Run:
		clean(op.Dir)
		for _, m := range op.Mounts {
			if m.Type != Secret || m.Env == "" {
				clean(m.Target)
			}
		}
	case *Copy:
		if !path.IsAbs(op.Dest) {
			t.Errorf("%s: destination %q is not absolute", s.Name, op.Dest)
		}
		if op.From.Read >= len(s.Reads) {
			t.Errorf("%s: reads %d of %d", s.Name, op.From.Read, len(s.Reads))
		}
	}
}

// FuzzParseGit holds that nothing of a repository's address can be a flag to git or lead out of the checkout.
func FuzzParseGit(f *testing.F) {
	for _, s := range []string{"https://h/b.git#main:d", "git@h:x", "https://h/b.git?ref=a&subdir=../x", "ssh://-oProxyCommand=x/y.git", "github.com/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		g, ok, err := ParseGitContext(s, nil)
		if !ok || err != nil {
			return
		}
		if strings.HasPrefix(g.Remote, "-") || strings.HasPrefix(g.Ref, "-") || g.Dir != "" && !filepath.IsLocal(g.Dir) {
			t.Errorf("ParseGitContext(%q) = %+v", s, g)
		}
	})
}

// FuzzBound expands words: none comes to more than what was measured before, however it is read.
func FuzzBound(f *testing.F) {
	for _, word := range []string{`a${A//x/\}${A//a/"}"${A//a/a}}}`, "${É:-'}'}$É$1$?", "${A#a*}${A%\\}}", `"${A:+\"}}" <<E`, "${A/$A/${B}}", "`}`${A//a/`}$A}"} {
		f.Add(word, "aaxa", "b}'$0")
	}
	f.Add("${A%}", "\xe5\xe5\xe5\xe5\xe5\xe5axaa", "") // which are no characters
	f.Fuzz(func(t *testing.T, word, a, b string) {
		for _, escape := range []rune{'\\', '`'} {
			vars := &variables{escape: escape}
			vars.set("A", a)
			vars.set("É", b)
			for i := range 8 {
				lex := shell.NewLex(escape)
				lex.RawQuotes, lex.RawEscapes = i&1 != 0, i&2 != 0
				lex.SkipUnsetEnv = i&4 != 0
				if i == 7 {
					lex = shell.NewLex('\\')
					lex.SkipProcessQuotes = true
				}
				m := vars.measure(lex, word)
				m.until(end)
				if m.deep || m.made > maxWord {
					continue
				}
				if got, _, err := lex.ProcessWord(word, vars); err == nil && len(got) > m.made {
					t.Errorf("%q comes to %d bytes, and %d were measured", word, len(got), m.made)
				}
			}
		}
	})
}
