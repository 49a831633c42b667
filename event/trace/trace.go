// Package trace shows where the time of a build went: as a page for people, as trace events for Chrome and Perfetto, and as spans for OpenTelemetry.
//
// It is a consumer of events, those that come or those that are kept. Names of steps and images come from strangers; the page has no
// script, and its policy forbids any.
package trace

import (
	"cmp"
	"slices"
	"time"

	"github.com/forge-build/forge/event"
)

// A Trace is what the events of one build say of its time. The zero value has seen none. Not safe for concurrent use.
type Trace struct {
	Build string           // its ID
	Begin *event.BuildInfo // what it was asked for; may be nil
	Start time.Time
	End   time.Time // of the build, or of its last event so far
	Error string    // why it failed
	Image string    // the ID of what it made

	steps map[int]*Step // by number
}

// A Step is one of the build's.
type Step struct {
	*event.Step
	State      event.Kind    // Planned, Cached, Started (it has no end), Done, Failed or Canceled
	Start, End time.Time     // zero if it has not begun
	Took       time.Duration // of a Cached one: when it was done
	Bytes      int64         // of its layer
	Copied     int64         // bytes that it brought here, or sent
	Place      string        // the cache that has answered, if it is not this machine's
	Usage      *event.Usage
	Why        *event.Why
	Critical   bool // the build could not have ended before it

	blobs map[string]int64 // bytes of each
}

// title is the step's number and name, so short that it can stand in a sentence.
func (s *Step) title() string {
	const most = 120
	if r := []rune(s.Title()); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s.Title()
}

// Work is how long the step was at work in this build.
func (s *Step) Work() time.Duration { return s.End.Sub(s.Start) }

// Event takes an event in.
func (t *Trace) Event(e event.Event) {
	if t.Start.IsZero() {
		t.Start, t.Build = e.Time, e.Build
	}
	if e.Time.After(t.End) {
		t.End = e.Time
	}
	switch {
	case e.Kind == event.Begun:
		t.Begin, t.Start = e.Begin, e.Time
	case e.Kind == event.Ended:
		t.Error, t.Image = e.Error, e.Text
	case e.Step != nil:
		t.step(e.Step).apply(e)
	}
}

func (t *Trace) step(of *event.Step) *Step {
	if t.steps == nil {
		t.steps = map[int]*Step{}
	}
	s := t.steps[of.Number]
	if s == nil {
		s = &Step{Step: of, State: event.Planned}
		t.steps[of.Number] = s
	}
	return s
}

func (s *Step) apply(e event.Event) {
	switch e.Kind {
	case event.Cached:
		s.State, s.Start, s.End, s.Took, s.Place, s.Bytes = e.Kind, e.Time, e.Time, e.Duration, e.Place, e.Bytes
	case event.Started:
		s.State, s.Start, s.End = e.Kind, e.Time, e.Time
	case event.Done, event.Failed, event.Canceled:
		if s.State, s.End = e.Kind, e.Time; s.Start.IsZero() {
			s.Start = e.Time.Add(-e.Duration)
		}
		s.Bytes, s.Usage = e.Bytes, e.Usage
	case event.Blob:
		if s.blobs == nil {
			s.blobs = map[string]int64{}
		}
		if e.Blob.State == event.Copying || e.Blob.State == event.Copied {
			n := max(e.Bytes, s.blobs[e.Blob.Digest])
			if e.Blob.State == event.Copied {
				n = max(n, e.Total)
			}
			s.Copied += n - s.blobs[e.Blob.Digest]
			s.blobs[e.Blob.Digest] = n
		}
	}
	if e.Why != nil {
		s.Why = e.Why
	}
	if s.State == event.Started && e.Time.After(s.End) {
		s.End = e.Time
	}
}

// Steps are the steps in the order of their numbers, those of the critical path marked.
func (t *Trace) Steps() []*Step {
	var list []*Step
	for _, s := range t.steps {
		s.Critical = false
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *Step) int { return a.Number - b.Number })
	for s := latest(list, func(*Step) bool { return true }); s != nil; s = t.before(list, s) {
		s.Critical = true
	}
	return list
}

// before is what a step on the critical path has waited for: that of its needs which ended last; an output waits for all that ended before it.
func (t *Trace) before(list []*Step, s *Step) *Step {
	if len(s.Needs) == 0 && s.Stage == "" {
		return latest(list, func(o *Step) bool { return o != s && !o.End.After(s.Start) && o.Number != s.Number })
	}
	return latest(list, func(o *Step) bool { return slices.Contains(s.Needs, o.Number) })
}

// latest is the step for which ok that worked and ended last, nil if there is none.
func latest(list []*Step, ok func(*Step) bool) (last *Step) {
	for _, s := range list {
		if s.ran() && !s.Critical && ok(s) && (last == nil || s.End.After(last.End)) {
			last = s
		}
	}
	return last
}

// ran reports whether the step was at work in this build.
func (s *Step) ran() bool {
	return s.State == event.Done || s.State == event.Failed || s.State == event.Canceled || s.State == event.Started
}

// A Stage is the steps of one stage, for one platform.
type Stage struct {
	Name  string
	Steps []*Step
}

// Stages are the steps by stages, in the order in which these are first met. What the build does with its result is the last.
func (t *Trace) Stages() []Stage {
	var stages []Stage
	var outputs []*Step
	for _, s := range t.Steps() {
		if s.Stage == "" {
			outputs = append(outputs, s)
			continue
		}
		name := s.Stage
		if t.platforms() > 1 {
			name += " · " + cmp.Or(s.Platform, "this machine")
		}
		i := slices.IndexFunc(stages, func(g Stage) bool { return g.Name == name })
		if i < 0 {
			i, stages = len(stages), append(stages, Stage{Name: name})
		}
		stages[i].Steps = append(stages[i].Steps, s)
	}
	if len(outputs) > 0 {
		stages = append(stages, Stage{Name: "result", Steps: outputs})
	}
	return stages
}

// platforms is for how many the build has steps.
func (t *Trace) platforms() int {
	seen := map[string]bool{}
	for _, s := range t.steps {
		if s.Stage != "" {
			seen[s.Platform] = true
		}
	}
	return len(seen)
}

// Name is what people call the build.
func (t *Trace) Name() string {
	if t.Begin == nil {
		return "build " + t.Build
	}
	return t.Begin.Name()
}

// Duration is what the build took.
func (t *Trace) Duration() time.Duration { return t.End.Sub(t.Start) }
