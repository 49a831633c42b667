package executor

import (
	"bytes"
	"sync"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/planner"
)

// Steps are the steps of a graph as events name them, by Step.Index. Graphs that were joined have the same.
func Steps(g *planner.Graph) []*event.Step {
	type place struct{ image, stage, platform, target string }
	of := func(s *planner.Step) place { return place{firstOf(s.For), s.Stage, s.Platform, s.Target} }
	steps, count := make([]*event.Step, len(g.Steps)), map[place]int{}
	for i, s := range g.Steps {
		steps[i] = &event.Step{
			Number: s.Number(), Kind: event.StepKind(s.Kind()), Name: s.Name, Stage: s.Stage, Index: 1, Platform: s.Platform, Target: s.Target, For: s.For,
		}
		if base, ok := s.Op.(*planner.Base); ok {
			steps[i].Digest = base.Image.Descriptor.Digest.String()
		}
		if s.On != nil {
			steps[i].Needs = append(steps[i].Needs, s.On.Number())
			// A base counts for each stage that begins with it. One that is shared with another platform names that.
			if _, base := s.On.Op.(*planner.Base); base || s.On.Stage == s.Stage {
				steps[i].Index = steps[s.On.Index].Index + 1
			}
		}
		for _, r := range s.Reads {
			steps[i].Needs = append(steps[i].Needs, r.Number())
		}
		count[of(s)] = max(count[of(s)], steps[i].Index)
	}
	for i, s := range g.Steps {
		steps[i].Count = count[of(s)]
	}
	return steps
}

// firstOf is the first of some names, "" if there is none.
func firstOf(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// A reporter sends events of steps, one at a time.
type reporter struct {
	steps []*event.Step // by Step.Index

	mu   sync.Mutex // held while sink is called
	sink event.Sink
}

// send sends an event, of a step unless s is nil.
func (r *reporter) send(s *planner.Step, e event.Event) {
	if r.sink == nil {
		return
	}
	if s != nil {
		e.Step = r.steps[s.Index]
	}
	e.Time = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sink(e)
}

// Planned are the events that say which steps a graph has, by Step.Index.
func Planned(g *planner.Graph) []event.Event {
	planned := make([]event.Event, len(g.Steps))
	for i, step := range Steps(g) {
		at := g.Steps[i].Span
		planned[i] = event.Event{Kind: event.Planned, Step: step, Source: event.Source{File: at.File, Line: at.Start}}
		if at.End > at.Start {
			planned[i].Source.End = at.End
		}
	}
	return planned
}

// plan sends which steps there are.
func (r *reporter) plan(g *planner.Graph) {
	for i, e := range Planned(g) {
		e.Step = nil
		r.send(g.Steps[i], e)
	}
}

// warn sends an error that does not end the build.
func (r *reporter) warn(err error) {
	if err != nil {
		r.send(nil, event.Event{Kind: event.Warning, Text: err.Error()})
	}
}

const (
	maxLine   = 64 << 10 // bytes of one Log event; what is longer comes in pieces
	tailLines = 20       // lines that a StepError keeps
	tailBytes = 16 << 10 // and how long they may be together

	progressEvery = 100 * time.Millisecond // between two events of a line that is written over and over
)

// A lineWriter turns what a command prints into events. What follows a carriage return takes the place of what stands in the line, as
// on a terminal: of a progress bar the last state that says something is the line, and the others are at most Progress. Safe for
// concurrent use.
type lineWriter struct {
	emit func(kind event.Kind, line string)

	mu    sync.Mutex // guards all below
	line  []byte     // begun, not ended
	state []byte     // what stood in the line before a carriage return, if that said something
	said  time.Time  // when the last Progress was emitted
	tail  [][]byte   // the last lines
	bytes int        // in tail
}

// Write never fails.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexAny(p, "\r\n")
		if end < 0 {
			w.add(p)
			w.progress(w.line)
			break
		}
		w.add(p[:end])
		if p[end] == '\n' {
			w.flush()
		} else {
			w.overwrite()
		}
		p = p[end+1:]
	}
	return n, nil
}

func (w *lineWriter) add(p []byte) {
	for len(w.line)+len(p) > maxLine {
		n := maxLine - len(w.line)
		w.line = append(w.line, p[:n]...)
		p = p[n:]
		w.flush()
	}
	w.line = append(w.line, p...)
}

// overwrite goes back to the beginning of the line.
func (w *lineWriter) overwrite() {
	if len(bytes.TrimSpace(w.line)) == 0 {
		w.line = w.line[:0]
		return
	}
	w.state, w.line = w.line, w.state[:0]
	w.progress(w.state)
}

// progress says how the line stands, unless it has just done so.
func (w *lineWriter) progress(line []byte) {
	if now := time.Now(); len(line) > 0 && now.Sub(w.said) >= progressEvery {
		w.said = now
		w.emit(event.Progress, string(line))
	}
}

// flush ends the line.
func (w *lineWriter) flush() {
	line := w.line
	if len(bytes.TrimSpace(line)) == 0 && len(w.state) > 0 {
		line = w.state
	}
	w.emit(event.Log, string(line))
	w.tail = append(w.tail, append([]byte(nil), line[:min(len(line), tailBytes)]...))
	w.bytes += len(w.tail[len(w.tail)-1])
	for len(w.tail) > tailLines || w.bytes > tailBytes && len(w.tail) > 1 {
		w.bytes -= len(w.tail[0])
		w.tail = w.tail[1:]
	}
	w.line, w.state = w.line[:0], w.state[:0]
}

// close emits a line that has no end and returns the last lines.
func (w *lineWriter) close() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.line)+len(w.state) > 0 {
		w.flush()
	}
	return bytes.Join(w.tail, []byte("\n"))
}
