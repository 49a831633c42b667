package main

import (
	"errors"
	"strings"

	"github.com/forge-build/forge"
)

// maxShown is how much of a line of a build file is shown, in bytes.
const maxShown = 1000

// explain turns an error into what is printed: the message and, for a mistake in a build file, its line and a hint.
func explain(err error) string {
	e, ok := errors.AsType[*forge.BuildFileError](err)
	if !ok {
		return err.Error()
	}
	lines := []string{err.Error()}
	for line := range strings.Lines(e.Source) {
		if line = strings.TrimRight(line, "\r\n"); len(line) > maxShown {
			line = strings.ToValidUTF8(line[:maxShown], "") + "…"
		}
		lines = append(lines, "  "+line)
	}
	if e.Hint != "" {
		lines = append(lines, "  "+e.Hint)
	}
	return strings.Join(lines, "\n")
}
