package parser

import (
	"errors"
	"path"
	"strings"
	"testing"
)

// FuzzParse: whatever comes, a file or an error with its place.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "FROM a\n", "# escape=`\nFROM a\nRUN x `\n y\n", "FROM a\nRUN <<E\nx\nE\n", "FROM a\nCOPY <<-'E' --x /y\n\tE\n",
		"FROM a AS B\nENV a b\nONBUILD RUN x\n", "ARG A\nFROM $A\nHEALTHCHECK --interval=1s CMD [\"x\"]\n",
		"FROM a\nRUN --mount=type=cache,target=/x --network=none x\n", "# check=error=true\n# syntax=x\nFROM a\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse("F", text, Options{})
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Span.Start < 1 || e.Err.Error() == "" {
				t.Errorf("%q: error without a place: %#v", text, err)
			}
			return
		}
		if len(file.Stages) == 0 {
			t.Errorf("%q: no stages and no error", text)
		}
		last := 0
		for _, s := range file.Stages {
			for _, in := range append([]Instruction{{Span: s.Span}}, s.Instructions...) {
				if in.Span.Start <= last || in.Span.End < in.Span.Start || in.Span.End > len(file.Lines) {
					t.Errorf("%q: %v after line %d", text, in.Span, last)
				}
				last = in.Span.End
				if in.node == nil {
					continue
				}
				if _, err := in.Fresh(); err != nil {
					t.Errorf("%q: cannot be made anew: %v", text, err)
				}
			}
		}
	})
}

// FuzzParseIgnore: every pattern is clean and can be matched.
func FuzzParseIgnore(f *testing.F) {
	for _, text := range []string{"a\n!b\n", "# c\n/x/\n", "[a-\n", "!\n", "/! \n", "/! /\n", "*\xff\n", "\xff\xfea\x00\n", "\uFEFF**/a\r\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		patterns, err := ParseIgnore(text)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Span.Start < 1 {
				t.Errorf("%q: error without a place: %v", text, err)
			}
			return
		}
		for _, p := range patterns {
			whole := p // "/!./x" comes out as "!./x", which BuildKit takes for an exception, too
			p = strings.TrimPrefix(p, "!")
			if p == "" || path.Clean(p) != p && path.Clean(whole) != whole {
				t.Errorf("%q: pattern %q is not clean", text, p)
			}
			if _, err := path.Match(p, "."); err != nil {
				t.Errorf("%q: pattern %q: %v", text, p, err)
			}
		}
	})
}
