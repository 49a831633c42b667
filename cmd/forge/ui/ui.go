// Package ui shows events to people: on a terminal, as plain lines, or as lines of JSON for programs.
package ui

import (
	"io"
	"os"

	"golang.org/x/term"

	"github.com/forge-build/forge/event"
)

// A Display shows the events of a build, pull, push or run. One goroutine at a time calls it.
type Display interface {
	Event(e event.Event)     // as they come; it is an [event.Sink]
	Close(outcome ...string) // the end: what was made, or nothing if it failed
}

// New returns what shows events on w: "plain", "log" for those of a build that is over, "tty", "rawjson", "quiet", or "auto" and "terminal", which are a terminal's view
// on a terminal, and plain or quiet elsewhere.
func New(how string, w io.Writer) Display {
	f, isFile := w.(*os.File)
	if out, ok := w.(*Output); ok {
		f, isFile = out.file, true
	}
	isTerminal := isFile && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
	colors := newPalette(f)
	switch how {
	case "auto", "terminal":
		if isTerminal {
			return newTerminal(f)
		}
		if how == "terminal" {
			return &quiet{w: w, state: state{palette: colors}}
		}
	case "tty":
		if isFile {
			return newTerminal(f)
		}
	case "rawjson":
		return newRawJSON(w)
	case "log":
		return &plain{w: w, state: state{palette: colors}, over: true}
	case "quiet":
		return &quiet{w: w, state: state{palette: colors}}
	}
	return newPlain(w, colors)
}
