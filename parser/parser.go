// Package parser reads a build file into typed instructions with positions, expanding nothing.
//
// Grammar, typed instructions and lint rules are BuildKit's; positions, limits, ignore files and the shape of an error
// are ours. The file is untrusted.
package parser

import "fmt"

// A Span is a range of lines of a build file. Lines count from 1.
type Span struct {
	File       string // as the caller named it
	Start, End int    // first and last line
}

// String is "file:line".
func (s Span) String() string { return fmt.Sprintf("%s:%d", s.File, s.Start) }

// An Error is something wrong with a build file, with its place and, where one is near, a suggestion.
type Error struct {
	Span   Span
	Source string // the line itself
	Err    error
	Hint   string // such as "did you mean --mount?"
}

func (e *Error) Error() string { return e.Span.String() + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// A Warning is what a lint rule found.
type Warning struct {
	Rule, Description, URL, Detail string
	Span                           Span
	Source                         []string // the lines of the span
}
