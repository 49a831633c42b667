package ui

import (
	"fmt"
	"io"

	"github.com/docker/go-units"

	"github.com/forge-build/forge/event"
)

// plain prints a line for everything that happens, the way logs of CI like it.
type plain struct {
	w io.Writer
	state
}

func (p *plain) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.w, format, args...) }

func (p *plain) Event(e event.Event) {
	of, b := p.apply(e)
	switch {
	case b != nil:
		p.blob(e.Step, b)
	case e.Step == nil && (e.Kind == event.Note || e.Kind == event.Warning):
		p.printf("%s\n", oneLine(e.Text))
	case e.Step != nil:
		p.step(e, of)
	}
}

// step prints what happens to a step.
func (p *plain) step(e event.Event, of *step) {
	n, label := e.Step.Number, p.label(e.Step)
	switch e.Kind {
	case event.Cached:
		p.printf("#%d %s\n#%d CACHED\n", n, label, n)
	case event.Started:
		p.printf("#%d %s\n", n, label)
	case event.Explain:
		p.printf("#%d why: %s\n", n, oneLine(e.Text))
	case event.Log:
		began := e.Time
		if of != nil {
			began = of.began
		}
		p.printf("#%d %.3f %s\n", n, e.Time.Sub(began).Seconds(), e.Text)
	case event.Note:
		p.printf("#%d %s\n", n, oneLine(e.Text))
	case event.Warning:
		p.printf("#%d WARNING: %s\n", n, oneLine(e.Text))
	case event.Done:
		p.printf("#%d DONE %s\n", n, seconds(e.Duration))
	case event.Failed:
		p.printf("#%d ERROR: %s\n", n, Lines(e.Error))
		p.printf("%s", failureTail(label, e.Text))
	}
}

// blob prints how a layer fares, once for each state. That a manifest is there already tells people that nothing is copied.
func (p *plain) blob(of *event.Step, b *blob) {
	is := b.Blob.State
	first := b.shown == ""
	if is == b.shown || is == event.Waiting || !b.isLayer() && !(first && is == event.Exists && of == nil) {
		return
	}
	b.shown = is
	if of == nil {
		p.printf("%s: %s\n", b.name(), stateWords(is))
		return
	}
	size := ""
	if b.Total > 0 {
		size = " " + units.HumanSizeWithPrecision(float64(b.Total), 3)
	}
	p.printf("#%d layer %s: %s%s\n", of.Number, b.name(), is, size)
}

func (p *plain) Close(outcome ...string) {
	for _, line := range append(outcome, p.lintLines()...) {
		p.printf("%s\n", line)
	}
}

// quiet shows only what a failed step printed last.
type quiet struct {
	w io.Writer
	state
}

func (q *quiet) Event(e event.Event) {
	q.apply(e)
	if e.Kind == event.Failed && e.Step != nil {
		_, _ = io.WriteString(q.w, failureTail(q.label(e.Step), e.Text))
	}
}

func (q *quiet) Close(...string) {}
