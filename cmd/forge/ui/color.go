package ui

import (
	"os"

	"golang.org/x/term"
)

// A style is the SGR sequence that begins it.
type style string

// Styles by what they mean.
const (
	styleRunning style = "\x1b[36m"
	styleCached  style = "\x1b[34m"
	styleDone    style = "\x1b[32m"
	styleWarning style = "\x1b[33m"
	styleFailed  style = "\x1b[31m"
	styleDim     style = "\x1b[2m"
	styleBold    style = "\x1b[1m"

	reset = "\x1b[0m"
)

// A palette shows styles, or not: the zero palette does not.
type palette struct{ on bool }

// newPalette says whether colours are wanted: on a terminal that has some, unless the environment says otherwise. NO_COLOR is none
// (no-color.org); CLICOLOR=0 too; CLICOLOR_FORCE and FORCE_COLOR want them everywhere.
func newPalette(f *os.File) palette {
	set := func(name string) bool { v := os.Getenv(name); return v != "" && v != "0" && v != "false" }
	switch {
	case os.Getenv("NO_COLOR") != "":
		return palette{}
	case set("FORCE_COLOR"), set("CLICOLOR_FORCE"):
		return palette{on: true}
	case os.Getenv("FORCE_COLOR") != "", os.Getenv("CLICOLOR") == "0", os.Getenv("TERM") == "dumb", f == nil:
		return palette{}
	}
	return palette{on: term.IsTerminal(int(f.Fd()))}
}

func (p palette) paint(s style, text string) string {
	if !p.on || text == "" {
		return text
	}
	return string(s) + text + reset
}

// log is a line that a command printed: with its own colours if colours are shown.
func (p palette) log(text string) string {
	if p.on {
		return clean(text, joinLines)
	}
	return oneLine(text)
}
