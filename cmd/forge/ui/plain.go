package ui

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/planner"
)

// plain prints a line for everything that happens, the way logs of CI like it.
type plain struct {
	w io.Writer
	labels
	started map[*planner.Step]time.Time
}

func (p *plain) Plan(g *planner.Graph) { p.plan(g) }

func (p *plain) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.w, format, args...) }

func (p *plain) Event(e executor.Event) {
	if e.Step == nil {
		p.Note(e.Text)
		return
	}
	n := p.order[e.Step]
	switch e.Kind {
	case executor.Cached:
		p.printf("#%d %s\n#%d CACHED\n", n, p.label(e.Step), n)
	case executor.Started:
		if p.started == nil {
			p.started = map[*planner.Step]time.Time{}
		}
		p.started[e.Step] = time.Now()
		p.printf("#%d %s\n", n, p.label(e.Step))
	case executor.Explain:
		p.printf("#%d why: %s\n", n, oneLine(e.Text))
	case executor.Log:
		p.printf("#%d %.3f %s\n", n, time.Since(p.started[e.Step]).Seconds(), e.Text)
	case executor.Warning:
		p.printf("#%d WARNING: %s\n", n, oneLine(e.Text))
	case executor.Done:
		p.printf("#%d DONE %s\n", n, seconds(e.Duration))
	case executor.Failed:
		p.printf("#%d ERROR: %s\n", n, Lines(e.Err.Error()))
		if step, ok := errors.AsType[*executor.StepError](e.Err); ok {
			p.printf("%s", failureTail(p.label(e.Step), step.Tail))
		}
	}
}

func (p *plain) Note(text string) { p.printf("%s\n", oneLine(text)) }

func (p *plain) Close(outcome ...string) {
	for _, line := range outcome {
		p.printf("%s\n", line)
	}
}

// quiet shows only what a failed step printed last.
type quiet struct {
	w io.Writer
	labels
}

func (q *quiet) Plan(g *planner.Graph) { q.plan(g) }

func (q *quiet) Event(e executor.Event) {
	if step, ok := errors.AsType[*executor.StepError](e.Err); ok && e.Kind == executor.Failed {
		_, _ = io.WriteString(q.w, failureTail(q.label(e.Step), step.Tail))
	}
}

func (q *quiet) Note(string) {}

func (q *quiet) Close(...string) {}
