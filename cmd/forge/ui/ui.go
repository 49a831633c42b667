// Package ui shows events to people: on a terminal, as plain lines, or as lines of JSON for programs.
package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/planner"
)

// A Build shows a build. Safe for concurrent use.
type Build interface {
	Plan(g *planner.Graph)   // before its steps' events
	Event(e executor.Event)  // as they come
	Note(text string)        // something about the build as a whole
	Close(outcome ...string) // the end: what was made, or nothing if it failed
}

// NewBuild returns what shows a build on w: "plain", "tty", "rawjson", "quiet" or "auto", which is a terminal's view
// on a terminal and plain elsewhere.
func NewBuild(how string, w io.Writer) Build {
	if how == "auto" {
		how = "plain"
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
			how = "tty"
		}
	}
	switch how {
	case "tty":
		if f, ok := w.(*os.File); ok {
			return newTerminal(f)
		}
	case "rawjson":
		return &synced{b: newRawJSON(w)}
	case "quiet":
		return &synced{b: &quiet{w: w}}
	}
	return &synced{b: &plain{w: w}}
}

// labels number the steps of each stage, for people.
type labels struct {
	of    map[*planner.Step]string
	order map[*planner.Step]int
}

func (l *labels) plan(g *planner.Graph) {
	if l.of == nil {
		l.of, l.order = map[*planner.Step]string{}, map[*planner.Step]int{}
	}
	total, at := map[string]int{}, map[string]int{}
	for _, s := range g.Steps {
		total[s.Stage]++
	}
	for _, s := range g.Steps {
		at[s.Stage]++
		l.order[s] = len(l.order) + 1
		l.of[s] = fmt.Sprintf("[%s %d/%d] %s", stageName(s.Stage), at[s.Stage], total[s.Stage], oneLine(s.Name))
	}
}

func (l *labels) label(s *planner.Step) string {
	if text, ok := l.of[s]; ok {
		return text
	}
	return oneLine(s.Name)
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

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// failureTail is what a failed step printed last, framed.
func failureTail(label string, tail []byte) string {
	if len(tail) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("------\n > " + label + ":\n")
	for line := range strings.Lines(string(tail)) {
		b.WriteString(strings.TrimRight(line, "\r\n") + "\n")
	}
	b.WriteString("------\n")
	return b.String()
}

// stageName is a stage's name; one without is called by its number.
func stageName(s string) string {
	if strings.Trim(s, "0123456789") == "" {
		return "stage-" + s
	}
	return s
}

// synced lets any goroutine call a Build.
type synced struct {
	mu sync.Mutex // held while build is called
	b  Build
}

func (s *synced) Plan(g *planner.Graph) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Plan(g)
}

func (s *synced) Event(e executor.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Event(e)
}

func (s *synced) Note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Note(text)
}

func (s *synced) Close(outcome ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Close(outcome...)
}
