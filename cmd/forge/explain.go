package main

import (
	"errors"
	"strings"

	"github.com/forge-build/forge/parser"
)

// explain turns an error into what is printed: the message and, for a mistake in a build file, its line and a hint.
func explain(err error) string {
	e, ok := errors.AsType[*parser.Error](err)
	if !ok {
		return err.Error()
	}
	lines := []string{err.Error()}
	for line := range strings.Lines(e.Source) {
		lines = append(lines, "  "+strings.TrimRight(line, "\r\n"))
	}
	if e.Hint != "" {
		lines = append(lines, "  "+e.Hint)
	}
	return strings.Join(lines, "\n")
}
