package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/forge-build/forge/event"
)

const repaintEvery = 100 * time.Millisecond

// A terminal keeps what is under way at the bottom of a terminal, and what is said for good above.
type terminal struct {
	f    *os.File
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex // guards all below
	view   view
	screen screen
}

func newTerminal(f *os.File) *terminal {
	t := &terminal{f: f, stop: make(chan struct{}), done: make(chan struct{})}
	t.view.palette = newPalette(f)
	go t.paintAlways()
	return t
}

func (t *terminal) paintAlways() {
	defer close(t.done)
	tick := time.NewTicker(repaintEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			t.mu.Lock()
			t.paint(t.frame())
			t.mu.Unlock()
		}
	}
}

func (t *terminal) Event(e event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.event(e)
	if e.Step == nil && e.Kind == event.Started { // from here on the terminal is the command's
		t.finish(nil)
	}
}

// frame is what to show now. The caller holds mu.
func (t *terminal) frame() (above, bottom []string, width int) {
	width, height := t.size()
	above, bottom = t.view.frame(time.Now(), width, height)
	return above, bottom, width
}

// size is that of the terminal; of what is none, that of the first ones.
func (t *terminal) size() (width, height int) {
	width, height, err := term.GetSize(int(t.f.Fd()))
	if err != nil || width < 2 || height < 2 {
		return 80, 24
	}
	return width, height
}

// paint shows a frame. The caller holds mu.
func (t *terminal) paint(above, bottom []string, width int) {
	_, _ = io.WriteString(t.f, t.screen.paint(above, bottom, width))
}

func (t *terminal) Close(outcome ...string) {
	close(t.stop)
	<-t.done
	t.mu.Lock()
	defer t.mu.Unlock()
	t.finish(append(outcome, t.view.lintLines()...))
}

// finish leaves what is to stay. The caller holds mu.
func (t *terminal) finish(outcome []string) {
	width, _ := t.size()
	t.view.last(time.Now(), width, outcome)
	t.paint(t.frame())
}

// A screen knows what the last frame left at the bottom of a terminal.
type screen struct {
	lines []string
	width int
}

// paint is what makes a terminal of so many columns show a frame in the place of the last one. Each line is written over the one that
// was there, so that nothing flickers. The lines at the bottom do not wrap while they are written: a character that is wider than it
// was thought to be takes no second row. The screen is never cleared from its first cell on: tmux would keep what was there.
func (s *screen) paint(above, bottom []string, width int) string {
	if len(above)+len(bottom)+len(s.lines) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\r")
	if up := s.rows(width); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	for _, line := range above {
		if b.WriteString(line); cells(line) == 0 || cells(line)%width > 0 { // at the edge it would take the last character
			b.WriteString("\x1b[K")
		}
		b.WriteString("\n")
	}
	s.lines, s.width = bottom, width
	if len(bottom) > 0 {
		b.WriteString("\x1b[?7l")
	}
	for _, line := range bottom {
		b.WriteString(line + "\x1b[K\n")
	}
	if len(bottom) > 0 {
		b.WriteString("\x1b[?7h")
	}
	b.WriteString("\x1b[J")
	return b.String()
}

// rows is how many rows the last frame takes: a terminal that has become narrower has broken its lines.
func (s *screen) rows(width int) (n int) {
	if width >= s.width {
		return len(s.lines)
	}
	for _, line := range s.lines {
		n++
		x := 0
		for _, r := range clean(line, dropColor) {
			if x += runeCells(r); x > width {
				n, x = n+1, runeCells(r)
			}
		}
	}
	return n
}
