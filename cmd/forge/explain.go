package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/forge-build/forge"
)

// maxShown is how much of a line of a build file is shown, in bytes.
const maxShown = 1000

// explain turns an error into what is printed: the message and, for a mistake in a build file, its line and a hint.
func explain(err error) string {
	if f, ok := errors.AsType[*forge.FailedStep](err); ok {
		return explainStep(f, err)
	}
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

// explainStep says where in the build file a step failed, and what to do next.
func explainStep(f *forge.FailedStep, err error) string {
	lines := []string{err.Error()}
	for line := range strings.Lines(f.Excerpt) {
		if line = strings.TrimRight(line, "\r\n"); len(line) > maxShown {
			line = strings.ToValidUTF8(line[:maxShown], "") + "…"
		}
		lines = append(lines, line)
	}
	if f.ExitCode != 0 { // a command has failed
		lines = append(lines, fmt.Sprintf("all that it printed: forge builds logs %s %d", f.Build, f.Step))
		if _, asked := errors.AsType[*questioned](err); !asked {
			lines = append(lines, "a shell where it broke: the same command with --shell")
		}
	}
	return strings.Join(lines, "\n")
}
