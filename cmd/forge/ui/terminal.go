package ui

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/planner"
)

const (
	repaintEvery = 100 * time.Millisecond
	logLines     = 6 // of each running step
)

// terminal keeps the running steps at the bottom of a terminal, each with its last lines, and what has ended above.
type terminal struct {
	f    *os.File
	stop chan struct{}
	done chan struct{}

	mu sync.Mutex // guards all below
	labels
	running []*runningStep
	above   []row // ended, not yet printed
	drawn   int   // lines at the bottom that the next paint replaces
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

func (t *terminal) say(left, right string) {
	for line := range strings.Lines(left) {
		t.above = append(t.above, row{strings.TrimRight(line, "\n"), right})
	}
}

type runningStep struct {
	step  *planner.Step
	began time.Time
	lines []string
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

func (t *terminal) Plan(g *planner.Graph) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plan(g)
}

func (t *terminal) Event(e executor.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Step == nil {
		t.say(oneLine(e.Text), "")
		return
	}
	label := t.label(e.Step)
	switch e.Kind {
	case executor.Cached:
		t.say(" => "+label, "CACHED")
	case executor.Started:
		t.running = append(t.running, &runningStep{step: e.Step, began: time.Now()})
	case executor.Explain:
		t.say("    why "+label+": "+oneLine(e.Text), "")
	case executor.Warning:
		t.say(" => WARNING "+label+": "+oneLine(e.Text), "")
	case executor.Log:
		t.log(e)
	case executor.Done:
		t.end(e.Step)
		t.say(" => "+label, seconds(e.Duration))
	case executor.Failed:
		t.end(e.Step)
		t.say(" => "+label, "ERROR")
		if step, ok := errors.AsType[*executor.StepError](e.Err); ok {
			t.say(Lines(failureTail(label, step.Tail)), "")
		}
	}
}

func (t *terminal) log(e executor.Event) {
	for _, r := range t.running {
		if r.step == e.Step {
			r.lines = append(r.lines, oneLine(e.Text))
			r.lines = r.lines[max(0, len(r.lines)-logLines):]
		}
	}
}

func (t *terminal) end(s *planner.Step) {
	t.running = slices.DeleteFunc(t.running, func(r *runningStep) bool { return r.step == s })
}

func (t *terminal) Note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.say(oneLine(text), "")
}

// paint replaces the bottom: first what has ended for good, then what runs.
func (t *terminal) paint() {
	t.mu.Lock()
	defer t.mu.Unlock()
	width, height, err := term.GetSize(int(t.f.Fd()))
	if err != nil || width < 20 {
		width, height = 80, 24
	}
	var b strings.Builder
	if t.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", t.drawn)
	}
	for _, r := range t.above {
		b.WriteString(r.fit(width) + "\n")
	}
	t.above = nil
	t.drawn = 0
	for _, r := range t.running {
		if t.drawn > height-2-logLines {
			break
		}
		b.WriteString(row{" => " + t.label(r.step), seconds(time.Since(r.began))}.fit(width) + "\n")
		t.drawn++
		for _, line := range r.lines {
			fmt.Fprintf(&b, "\x1b[2m%s\x1b[0m\n", cut(" => => # "+line, width))
			t.drawn++
		}
	}
	_, _ = t.f.WriteString(b.String())
}

// cut shortens a line to what fits before the right edge.
func cut(s string, width int) string {
	if r := []rune(s); len(r) >= width {
		return string(r[:width-2]) + "…"
	}
	return s
}

func (t *terminal) Close(outcome ...string) {
	close(t.stop)
	<-t.done
	t.mu.Lock()
	t.running = nil
	for _, line := range outcome {
		t.say(line, "")
	}
	t.mu.Unlock()
	t.paint()
}
