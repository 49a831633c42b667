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

// A terminal keeps what is under way at the bottom of a terminal, each running step with its last lines and each layer
// with a bar, and what has ended above.
type terminal struct {
	f    *os.File
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex // guards all below
	view  view
	drawn int // lines at the bottom that the next paint replaces
}

func newTerminal(f *os.File) *terminal {
	t := &terminal{f: f, stop: make(chan struct{}), done: make(chan struct{})}
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
			t.paint()
		}
	}
}

func (t *terminal) Event(e event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.event(e)
	if e.Step == nil && e.Kind == event.Started { // from here on the terminal is the command's
		t.repaint()
		t.view.blobs, t.drawn = nil, 0
	}
}

// paint replaces the bottom: first what has ended for good, then what is under way.
func (t *terminal) paint() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.repaint()
}

// repaint is paint for a caller who holds mu.
func (t *terminal) repaint() {
	width, height, err := term.GetSize(int(t.f.Fd()))
	if err != nil || width < 20 {
		width, height = 80, 24
	}
	above, bottom := t.view.frame(time.Now(), width, height)
	if len(above)+len(bottom)+t.drawn == 0 {
		return
	}
	var b strings.Builder
	if t.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", t.drawn)
	}
	for _, line := range append(above, bottom...) {
		b.WriteString(line + "\n")
	}
	t.drawn = len(bottom)
	_, _ = io.WriteString(t.f, b.String())
}

func (t *terminal) Close(outcome ...string) {
	close(t.stop)
	<-t.done
	t.mu.Lock()
	t.view.end(outcome)
	t.mu.Unlock()
	t.paint()
	for _, line := range t.view.lintLines() {
		_, _ = io.WriteString(t.f, line+"\n")
	}
}

// A view is what a terminal shows of a state.
type view struct {
	state
	above []row // ended, not yet shown
}

// A row is a line with something at its right edge.
type row struct{ left, right string }

func (r row) fit(width int) string {
	if r.right == "" {
		return cut(r.left, width)
	}
	left := cut(r.left, width-len(r.right)-1)
	return left + strings.Repeat(" ", max(1, width-1-len([]rune(left))-len(r.right))) + r.right
}

func (v *view) say(left, right string) {
	for line := range strings.Lines(left) {
		v.above = append(v.above, row{strings.TrimRight(line, "\n"), right})
	}
}

// event takes an event in, and says what has ended.
func (v *view) event(e event.Event) {
	v.apply(e)
	if e.Step == nil {
		if e.Kind == event.Note || e.Kind == event.Warning {
			v.say(oneLine(e.Text), "")
		}
		return
	}
	label := v.label(e.Step)
	switch e.Kind {
	case event.Cached:
		v.say(" => "+label, "CACHED")
	case event.Explain:
		v.say("    why "+label+": "+oneLine(e.Text), "")
	case event.Note:
		v.say(oneLine(e.Text), "")
	case event.Warning:
		v.say(" => WARNING "+label+": "+oneLine(e.Text), "")
	case event.Done:
		v.say(" => "+label, seconds(e.Duration))
	case event.Failed:
		v.say(" => "+label, "ERROR")
		v.say(Lines(failureTail(label, e.Text)), "")
	}
}

// end leaves of what is under way only the bars of a pull or push, and says what was made.
func (v *view) end(outcome []string) {
	v.running = nil
	for _, line := range outcome {
		v.say(line, "")
	}
}

// frame is what to show at a time: lines that stay, once, and lines that the next frame replaces.
func (v *view) frame(now time.Time, width, height int) (above, bottom []string) {
	for _, r := range v.above {
		above = append(above, r.fit(width))
	}
	v.above = nil
	for _, r := range v.running {
		if len(bottom) > height-2-logLines {
			break
		}
		bottom = append(bottom, row{" => " + v.label(r.Step), seconds(now.Sub(r.began))}.fit(width))
		for _, line := range r.lines {
			bottom = append(bottom, "\x1b[2m"+cut(" => => # "+line, width)+"\x1b[0m")
		}
		bottom = bars(bottom, r.blobs, " => => ", now, width, height)
	}
	return above, bars(bottom, v.blobs, "", now, width, height)
}

// bars adds a line for each layer, as many as there is room for.
func bars(lines []string, blobs []*blob, prefix string, now time.Time, width, height int) []string {
	for _, b := range blobs {
		if b.isLayer() && len(lines) < height-1 {
			lines = append(lines, cut(prefix+b.line(now, width-len(prefix)), width))
		}
	}
	return lines
}

// cut shortens a line to what fits before the right edge.
func cut(s string, width int) string {
	if r := []rune(s); len(r) >= width {
		return string(r[:width-2]) + "…"
	}
	return s
}
