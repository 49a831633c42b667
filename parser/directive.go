package parser

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
)

// readDirectives reads the comments that speak to the reader. BuildKit's parser reads them again; here they get their
// lines right and are kept.
func (f *File) readDirectives(text []byte, opt Options) error {
	var p bk.DirectiveParser
	for i, line := range f.Lines {
		if i == 0 {
			line = strings.TrimPrefix(line, "\uFEFF")
		}
		d, err := p.ParseLine([]byte(strings.TrimSpace(line)))
		if err != nil {
			return f.errorAt(i+1, err)
		}
		if d == nil {
			break
		}
		if d.Name == "escape" && d.Value != `\` && d.Value != "`" {
			return f.errorAt(i+1, fmt.Errorf("invalid escape token '%s' does not match ` or \\", d.Value))
		}
		f.Directives = append(f.Directives, Directive{Name: d.Name, Value: d.Value, Line: i + 1})
	}
	if err := f.checkSyntax(text, opt.Syntax); err != nil {
		return err
	}
	check, line := opt.Check, 1
	if check == "" {
		var at []bk.Range
		if check, _, at, _ = bk.ParseDirective("check", text); len(at) > 0 {
			line = at[0].Start.Line
		}
	}
	config, err := linter.ParseLintOptions(check)
	if err != nil {
		return f.errorAt(line, fmt.Errorf("check directive: %w", err))
	}
	f.Check = *config
	return nil
}

// checkSyntax accepts every version of Docker's own frontend, which is what this reader reads. Another frontend is a
// program that would have to be fetched and run, and reads another language.
func (f *File) checkSyntax(text []byte, override string) error {
	ref, line := override, 1
	if ref == "" {
		var at []bk.Range
		if ref, _, at, _ = bk.DetectSyntax(text); len(at) > 0 {
			line = max(1, at[0].Start.Line)
		}
	}
	if ref == "" {
		return nil
	}
	name, _, _ := strings.Cut(ref, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "index."), "docker.io/")
	if name == "docker/dockerfile" || name == "docker/dockerfile-upstream" {
		return nil
	}
	e := f.errorAt(line, fmt.Errorf("syntax %s is a foreign frontend; only docker/dockerfile is read here", ref))
	e.Hint = "remove the directive, or write # syntax=docker/dockerfile:1"
	return e
}

// checkText refuses what no instruction can hold: bytes that are not UTF-8 and NUL. A comment may hold anything.
func (f *File) checkText() error {
	if len(f.Lines) > maxLines {
		return f.errorAt(maxLines+1, fmt.Errorf("more than %d lines", maxLines))
	}
	for i, line := range f.Lines {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		if why := badText(line); why != "" {
			e := f.errorAt(i+1, errors.New(why))
			e.Source = strings.ToValidUTF8(e.Source, "\uFFFD")
			return e
		}
		if len(line) > maxLine {
			e := f.errorAt(i+1, fmt.Errorf("dockerfile line greater than max allowed size of %d", maxLine))
			e.Source = line[:64] + "…"
			return e
		}
	}
	return nil
}

const (
	// maxLine is the longest line, in bytes, that BuildKit's reader takes.
	maxLine = 65535
	// maxLines is how many lines there may be: that reader takes a hundred bytes of memory, and microseconds, for an empty one.
	maxLines = 100000
)

// badText says what makes text unreadable, or nothing.
func badText(text string) string {
	switch {
	case !utf8.ValidString(text):
		return "not valid UTF-8"
	case strings.IndexByte(text, 0) >= 0:
		return "a NUL byte"
	}
	return ""
}
