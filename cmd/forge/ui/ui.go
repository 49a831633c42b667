// Package ui shows events to people: on a terminal, as plain lines, or as lines of JSON for programs.
package ui

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/forge-build/forge/event"
)

// A Display shows the events of a build, pull, push or run. One goroutine at a time calls it.
type Display interface {
	Event(e event.Event)     // as they come; it is an [event.Sink]
	Close(outcome ...string) // the end: what was made, or nothing if it failed
}

// New returns what shows events on w: "plain", "tty", "rawjson", "quiet", or "auto" and "terminal", which are a terminal's view
// on a terminal, and plain or quiet elsewhere.
func New(how string, w io.Writer) Display {
	f, isFile := w.(*os.File)
	isTerminal := isFile && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
	switch how {
	case "auto", "terminal":
		if isTerminal {
			return newTerminal(f)
		}
		if how == "terminal" {
			return &quiet{w: w}
		}
	case "tty":
		if isFile {
			return newTerminal(f)
		}
	case "rawjson":
		return newRawJSON(w)
	case "quiet":
		return &quiet{w: w}
	}
	return &plain{w: w}
}

// oneLine is text without line ends and control characters: it may come from a stranger.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0:
			return -1
		}
		return r
	}, strings.TrimRight(s, "\n"))
}

// Lines is text with its lines, but without other control characters: what a stranger wrote must not steer a terminal.
func Lines(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
