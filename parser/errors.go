package parser

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/suggest"

	"github.com/forge-build/forge/internal/web"
)

// An Error is something wrong with a build file, with its place and, where one is near, a suggestion.
type Error struct {
	Span   Span
	Source string // the line itself
	Err    error
	Hint   string // such as "did you mean --mount?"
}

func (e *Error) Error() string { return e.Span.String() + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// ErrorAt says what is wrong with an instruction. An error that is an [*Error] already stays as it is.
func (f *File) ErrorAt(span Span, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Span: span, Source: web.RedactText(f.Line(span.Start)), Err: err}
}

// Suggest makes the option nearest to a word the hint: the first of those equally near, none if none is near. It returns e,
// and keeps a hint that there is.
func (e *Error) Suggest(word string, options []string) *Error {
	if match := Nearest(word, options); match != "" && e.Hint == "" {
		e.Hint = "did you mean " + match + "?"
	}
	return e
}

// Nearest is the option that somebody may have meant by a word; "" if there is none, or if there is too much to compare: that takes the
// product of the lengths for each.
func Nearest(word string, options []string) string {
	const longest, most = 64, 1000 // bytes; options
	if len(word) > longest || len(options) > most {
		return ""
	}
	short := make([]string, 0, len(options))
	for _, option := range options {
		if len(option) <= longest {
			short = append(short, option)
		}
	}
	match, _ := suggest.Search(word, short, true)
	return match
}

func (f *File) errorAt(line int, err error) *Error {
	return f.ErrorAt(Span{File: f.Name, Start: line, End: line}, err)
}

// convertError turns an error of BuildKit's reader into ours; node is the instruction it is about, if that is known.
func (f *File) convertError(err error, node *bk.Node) *Error {
	span := Span{File: f.Name, Start: 1, End: 1}
	if located, ok := errors.AsType[*bk.LocationError](err); ok && len(located.Locations) > 0 {
		if lines := located.Locations[0]; len(lines) > 0 {
			span.Start, span.End = max(1, lines[0].Start.Line), max(1, lines[len(lines)-1].End.Line)
		}
	}
	e := f.ErrorAt(span, err)
	if node == nil {
		return e
	}
	word := strings.ToUpper(node.Value)
	if flag, ok := unknownFlag(word, node.Flags); ok {
		e.Err = &reworded{fmt.Sprintf("%s has no flag %s", word, flag), err}
		return e.Suggest(flag, flagNames(word))
	} else if unknown, ok := errors.AsType[*instructions.UnknownInstructionError](err); ok {
		e.Err = unknown // without BuildKit's suggestion, which is any of those equally near
		fold := strings.ToLower
		if node.Value == word {
			fold = strings.ToUpper
		}
		var names []string
		for _, name := range slices.Sorted(maps.Keys(command.Commands)) {
			names = append(names, fold(name))
		}
		slices.SortStableFunc(names, func(a, b string) int { return likeness(b, word) - likeness(a, word) })
		return e.Suggest(fold(word), names)
	}
	return e
}

// unknownFlag is the first of an instruction's flags that it does not have, without its value.
func unknownFlag(instruction string, flags []string) (string, bool) {
	known := flagNames(instruction)
	for _, flag := range flags {
		flag, _, _ = strings.Cut(flag, "=")
		if flag == "--" {
			break
		}
		if !slices.Contains(known, flag) {
			return flag, true
		}
	}
	return "", false
}

// likeness is 1 if two words begin with the same letter, as a word and a slip of the finger mostly do.
func likeness(option, word string) int {
	if word != "" && strings.EqualFold(option[:1], word[:1]) {
		return 1
	}
	return 0
}

func flagNames(instruction string) []string {
	switch instruction {
	case "ADD":
		return []string{"--chown", "--chmod", "--link", "--keep-git-dir", "--checksum", "--unpack", "--exclude"}
	case "COPY":
		return []string{"--chown", "--chmod", "--from", "--link", "--exclude", "--parents"}
	case "FROM":
		return []string{"--platform"}
	case "HEALTHCHECK":
		return []string{"--interval", "--timeout", "--start-period", "--start-interval", "--retries"}
	case "RUN":
		return []string{"--mount", "--network", "--security", "--device"}
	}
	return nil
}

// A reworded error says the same in other words.
type reworded struct {
	message string
	err     error
}

func (r *reworded) Error() string { return r.message }

func (r *reworded) Unwrap() error { return r.err }
