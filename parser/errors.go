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

// ErrorAt says what is wrong with an instruction. A suggestion that BuildKit has put into the message becomes the hint,
// and an error that is an [*Error] already stays as it is.
func (f *File) ErrorAt(span Span, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	message, hint := cutHint(strings.TrimSpace(err.Error()))
	e := &Error{Span: span, Source: web.RedactText(f.Line(span.Start)), Err: err, Hint: hint}
	if message != err.Error() {
		e.Err = &reworded{message, err}
	}
	return e
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
	if node == nil {
		return f.ErrorAt(span, err)
	}
	e := f.ErrorAt(span, err)
	word := strings.ToUpper(node.Value)
	if flag, ok := unknownFlag(word, node.Flags); ok {
		e.Err = &reworded{fmt.Sprintf("%s has no flag %s", word, flag), err}
		e.Hint = hint(strings.TrimPrefix(flag, "--"), flagNames(word), "--")
	} else if unknown, ok := errors.AsType[*instructions.UnknownInstructionError](err); ok {
		names := slices.Sorted(maps.Keys(command.Commands))
		slices.SortStableFunc(names, func(a, b string) int { return likeness(b, word) - likeness(a, word) })
		e.Hint = hint(strings.ToLower(unknown.Instruction), names, "")
		if node.Value == word {
			e.Hint = strings.Replace(strings.ToUpper(e.Hint), "DID YOU MEAN", "did you mean", 1)
		}
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
		if !slices.Contains(known, strings.TrimPrefix(flag, "--")) {
			return flag, true
		}
	}
	return "", false
}

// hint suggests the option nearest to a word, the first of those equally near: BuildKit takes any of them.
func hint(word string, options []string, prefix string) string {
	match, ok := suggest.Search(word, options, true)
	if !ok {
		return ""
	}
	return "did you mean " + prefix + match + "?"
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
		return []string{"chown", "chmod", "link", "keep-git-dir", "checksum", "unpack", "exclude"}
	case "COPY":
		return []string{"chown", "chmod", "from", "link", "exclude", "parents"}
	case "FROM":
		return []string{"platform"}
	case "HEALTHCHECK":
		return []string{"interval", "timeout", "start-period", "start-interval", "retries"}
	case "RUN":
		return []string{"mount", "network", "security", "device"}
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

// cutHint splits "what is wrong (did you mean this?)" in two.
func cutHint(message string) (rest, hint string) {
	i := strings.LastIndex(message, " (did you mean ")
	if i < 0 || !strings.HasSuffix(message, "?)") {
		return message, ""
	}
	return message[:i], message[i+2 : len(message)-1]
}
