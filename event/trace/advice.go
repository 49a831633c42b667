package trace

import (
	"fmt"
	"slices"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge/event"
)

// What is worth a word.
const (
	minShare   = 0.15        // of the time of the build
	minWork    = time.Second // less than this is nobody's concern
	bigCopy    = 100 << 20   // bytes of files of a context
	slowLine   = 20 << 20    // bytes a second
	idle       = 0.3         // processors in use, on average
	minTrouble = 50 * time.Millisecond
)

// Advice says, in sentences made of what was measured, what would have made the build faster; the weightiest first.
func (t *Trace) Advice() []string {
	type weighed struct {
		text   string
		weight time.Duration
	}
	var all []weighed
	add := func(weight time.Duration, format string, args ...any) {
		if weight >= minTrouble {
			all = append(all, weighed{fmt.Sprintf(format, args...), weight})
		}
	}
	steps := t.Steps()
	if s, after, lost := t.worstMiss(steps); s != nil {
		add(lost, "%s was not in the cache (%s), and %d steps that stand on it ran for %s. What changes often belongs as late in the build file as it can be, and what the other steps need of it in a COPY of its own.",
			s.title(), firstLine(s.Why), after, short(lost))
	}
	if s := longest(steps); s != nil && s.Work() >= minWork && share(s.Work(), t.Duration()) >= minShare {
		text := fmt.Sprintf("%s is the longest step of the critical path: %s of %s.", s.title(), short(s.Work()), short(t.Duration()))
		if u := s.Usage; u != nil {
			text += fmt.Sprintf(" It kept %.1f processors busy.", busy(s))
			if busy(s) < idle {
				text += " It has mostly waited, for a network or a disk: a RUN --mount=type=cache keeps what it downloads."
			}
		}
		add(s.Work(), "%s", text)
	}
	for _, s := range steps {
		switch {
		case s.Kind == event.Copy && s.ran() && s.Bytes >= bigCopy:
			add(s.Work(), "%s copies %s. What is not needed of it can be kept out by .dockerignore.", s.title(), size(s.Bytes))
		case (s.Kind == event.Base || s.Kind == event.Push) && s.Critical && s.Work() >= minWork && rate(s) < slowLine && share(s.Work(), t.Duration()) >= minShare:
			add(s.Work(), "%s: %s in %s, that is %s a second, and the build waited for it. A registry or mirror nearer by would shorten that.",
				s.title(), size(s.Copied), short(s.Work()), size(int64(rate(s))))
		}
	}
	slices.SortStableFunc(all, func(a, b weighed) int { return int(b.weight - a.weight) })
	var texts []string
	for _, w := range all {
		texts = append(texts, w.text)
	}
	return texts
}

// worstMiss is the step whose change has cost most: that which ran although nothing below it was another than before, and with it the steps
// that stand on it and ran; how many these are, and for how long they were at work.
func (t *Trace) worstMiss(steps []*Step) (worst *Step, count int, lost time.Duration) {
	for _, s := range steps {
		if s.Why == nil || s.Why.Reason != event.Changed || !s.ran() || !slices.ContainsFunc(s.Why.Changes, func(c event.Change) bool { return c.Field != "below" }) {
			continue
		}
		after := map[int]bool{s.Number: true}
		n, took := 0, time.Duration(0)
		for _, o := range steps { // in the order in which they stand on each other
			if o.ran() && o.Stage != "" && slices.ContainsFunc(o.Needs, func(need int) bool { return after[need] }) {
				after[o.Number] = true
				n++
				took += o.Work()
			}
		}
		if n > 0 && took > lost {
			worst, count, lost = s, n, took
		}
	}
	return worst, count, lost
}

func firstLine(w *event.Why) string {
	lines := w.Lines()
	switch len(lines) {
	case 0:
		return "it has changed"
	case 1:
		return lines[0]
	}
	return fmt.Sprintf("%s and %d more", lines[0], len(lines)-1)
}

// longest is the longest step of the critical path.
func longest(steps []*Step) (found *Step) {
	for _, s := range steps {
		if s.Critical && (found == nil || s.Work() > found.Work()) {
			found = s
		}
	}
	return found
}

func share(part, whole time.Duration) float64 {
	return float64(part) / float64(max(whole, 1))
}

// busy is how many processors a step has used on average.
func busy(s *Step) float64 { return share(s.Usage.CPU, s.Work()) }

// rate is how many bytes a second a step has copied.
func rate(s *Step) float64 { return float64(s.Copied) / max(s.Work().Seconds(), 1e-3) }

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// short is a duration for people: three digits.
func short(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1fms", d.Seconds()*1e3)
}
