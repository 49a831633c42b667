package ui

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/forge-build/forge/event"
)

const (
	// turn is how long a step has the log for itself while others have something to say.
	turn = 3 * time.Second
	// pause is how long it may be silent meanwhile.
	pause = 500 * time.Millisecond
)

// plain prints a line for everything that happens, the way logs of CI like it. Lines of a step stay together: what others have to say
// waits until the step ends, is silent for a while, or has had its turn.
type plain struct {
	w io.Writer

	mu    sync.Mutex   // guards all below
	out   bytes.Buffer // what is to be written
	state state
	talks *speech // the step that has the log; nil if none has
	since time.Time
	last  time.Time // when it said something
	waits []*speech // in the order in which they began to wait
	alarm *time.Timer
	over  bool // events are old: their times say when a turn is over, and no clock
}

// A speech is what a step says.
type speech struct {
	of    *step
	lines []string // that wait
	ended bool
	count int // lines of the command that were printed since the step has the log
}

func newPlain(w io.Writer, colors palette) *plain { return &plain{w: w, state: state{palette: colors}} }

func (p *plain) Event(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.event(e)
	p.write()
	p.wait()
}

// wait has the waiting steps looked after although nothing happens any more. The caller holds mu.
func (p *plain) wait() {
	if len(p.waits) == 0 || p.alarm != nil || p.over {
		return
	}
	p.alarm = time.AfterFunc(pause, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.alarm = nil
		p.pass(time.Now())
		p.write()
		p.wait()
	})
}

// event takes an event in.
func (p *plain) event(e event.Event) {
	of, b := p.state.apply(e)
	switch {
	case of != nil:
		if lines := p.lines(e, of, b); len(lines) > 0 || e.Kind == event.Started {
			p.say(e.Time, of, lines)
		}
	case b != nil:
		p.blob(b)
	case e.Kind == event.Note:
		p.printf("%s\n", oneLine(e.Text))
	case e.Kind == event.Warning:
		p.printf("%s\n", p.state.paint(styleWarning, oneLine(e.Text)))
	}
}

// say prints lines of a step now if it has the log or nobody has, and else when its turn comes.
func (p *plain) say(now time.Time, of *step, lines []string) {
	p.pass(now)
	s := p.talks
	if s == nil || s.of != of {
		s = p.speechOf(of)
	}
	s.lines = append(s.lines, lines...)
	s.ended = of.status > running
	p.pass(now)
}

// speechOf is what a step has waiting.
func (p *plain) speechOf(of *step) *speech {
	for _, s := range p.waits {
		if s.of == of {
			return s
		}
	}
	s := &speech{of: of}
	p.waits = append(p.waits, s)
	return s
}

// pass gives the log to who waits if it is their turn, and prints what may be printed.
func (p *plain) pass(now time.Time) {
	for {
		if s := p.talks; s != nil {
			p.print(s, now)
			if !s.ended && (len(p.waits) == 0 || now.Sub(p.since) < turn && now.Sub(p.last) < pause) {
				return
			}
			p.talks = nil
		}
		if len(p.waits) == 0 {
			return
		}
		p.talks, p.waits = p.waits[0], p.waits[1:]
		p.talks.count = 0
		p.since, p.last = now, now
		p.printf("#%d %s\n", p.talks.of.Number, p.state.label(p.talks.of.Step, allDigits))
	}
}

func (p *plain) print(s *speech, now time.Time) {
	if len(s.lines) == 0 {
		return
	}
	p.printf("%s\n", strings.Join(s.lines, "\n"))
	s.count += len(s.lines)
	p.last = now
	if tail := s.of.tail; s.of.status == failed && s.count <= strings.Count(tail, "\n")+1 { // else it stands right above
		p.printf("%s", p.state.failureTail(p.state.label(s.of.Step, allDigits), tail))
	}
	s.lines = s.lines[:0]
}

// lines are what there is to say of an event of a step.
func (p *plain) lines(e event.Event, of *step, b *blob) []string {
	one := func(format string, args ...any) []string {
		return []string{fmt.Sprintf("#%d ", of.Number) + fmt.Sprintf(format, args...)}
	}
	colors := p.state.palette
	switch e.Kind {
	case event.Cached:
		return one("%s", colors.paint(styleCached, "CACHED"))
	case event.Explain:
		return one("why: %s", oneLine(e.Text))
	case event.Log:
		return one("%.3f %s", e.Time.Sub(of.began).Seconds(), colors.log(e.Text))
	case event.Note:
		return one("%s", oneLine(e.Text))
	case event.Warning:
		return one("%s %s", colors.paint(styleWarning, "WARNING:"), oneLine(e.Text))
	case event.Done:
		return one("%s %s", colors.paint(styleDone, "DONE"), seconds(e.Duration))
	case event.Failed:
		return one("%s %s", colors.paint(styleFailed, "ERROR:"), Lines(e.Error))
	case event.Canceled:
		return one("%s %s", colors.paint(styleWarning, "CANCELED"), seconds(e.Duration))
	case event.Blob:
		return p.layer(of, b)
	}
	return nil
}

// layer says how a layer of a step fares, once for each state.
func (p *plain) layer(of *step, b *blob) []string {
	is := b.Blob.State
	if is == b.shown || is == event.Waiting || !b.isLayer() {
		return nil
	}
	b.shown = is
	bytes := ""
	if n := max(b.Total, b.Bytes); n > 0 {
		bytes = " " + Size(n)
	}
	return []string{fmt.Sprintf("#%d layer %s: %s%s", of.Number, b.name(), is, bytes)}
}

// blob prints how a layer of no step fares. That a manifest is there already tells people that nothing is copied.
func (p *plain) blob(b *blob) {
	is := b.Blob.State
	if is == b.shown || is == event.Waiting || !b.isLayer() && (b.shown != "" || is != event.Exists) {
		return
	}
	b.shown = is
	p.printf("%s: %s\n", b.name(), stateWords(is))
}

func (p *plain) printf(format string, args ...any) { _, _ = fmt.Fprintf(&p.out, format, args...) }

// write writes what was printed, if anything was. It goes on without what cannot be written: a build does not end for want of a reader.
func (p *plain) write() {
	if p.out.Len() == 0 {
		return
	}
	_, _ = p.w.Write(p.out.Bytes())
	p.out.Reset()
}

func (p *plain) Close(outcome ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alarm != nil {
		p.alarm.Stop()
	}
	for p.talks != nil || len(p.waits) > 0 { // nobody says anything any more
		if p.talks != nil {
			p.talks.ended = true
		}
		for _, s := range p.waits {
			s.ended = true
		}
		p.pass(p.last)
	}
	for _, line := range append(outcome, p.state.lintLines()...) {
		p.printf("%s\n", line)
	}
	p.write()
}

// quiet shows only what a failed step printed last.
type quiet struct {
	w     io.Writer
	state state
}

func (q *quiet) Event(e event.Event) {
	q.state.apply(e)
	if e.Kind == event.Failed && e.Step != nil {
		_, _ = io.WriteString(q.w, q.state.failureTail(q.state.label(e.Step, allDigits), e.Text))
	}
}

func (q *quiet) Close(...string) {}
