package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge/event"
)

// logLines is how many of the last lines of a running step are kept.
const logLines = 6

// A state is what the events that came so far say of a build, pull, push or run. It depends on nothing else: the same
// events make the same state.
type state struct {
	running   []*step // in the order in which they began
	blobs     []*blob // of no step, in the order in which they were first met
	lint      []string
	platforms []string // of the steps
}

// A step is one that runs.
type step struct {
	*event.Step
	began time.Time
	lines []string // the last that its command printed
	blobs []*blob  // that it brings here
}

// A blob is one that is copied.
type blob struct {
	event.Event
	began time.Time // of the copying
	shown event.State
}

// apply takes an event in. It returns the step that the event is about, if that runs or has just ended, and the blob.
func (s *state) apply(e event.Event) (*step, *blob) {
	at := -1
	if e.Step != nil {
		at = slices.IndexFunc(s.running, func(r *step) bool { return r.Number == e.Step.Number })
	}
	var of *step
	if at >= 0 {
		of = s.running[at]
	}
	switch e.Kind {
	case event.Planned:
		if name := platformsOf(e.Step); name != "" && !slices.Contains(s.platforms, name) {
			s.platforms = append(s.platforms, name)
		}
	case event.Started:
		if e.Step == nil { // the command of a run
			break
		}
		of = &step{Step: e.Step, began: e.Time}
		s.running = append(s.running, of)
	case event.Log:
		if of != nil {
			of.lines = append(of.lines, oneLine(e.Text))
			of.lines = of.lines[max(0, len(of.lines)-logLines):]
		}
	case event.Done, event.Failed:
		if of != nil {
			s.running = slices.Delete(s.running, at, at+1)
		}
	case event.Lint:
		s.lint = append(s.lint, fmt.Sprintf(" - %s (line %d)", Lines(e.Text), e.Source.Line))
	case event.Blob:
		if of != nil {
			return of, addBlob(&of.blobs, e)
		}
		return nil, addBlob(&s.blobs, e)
	}
	return of, nil
}

func addBlob(blobs *[]*blob, e event.Event) *blob {
	for _, b := range *blobs {
		if b.Blob.Digest == e.Blob.Digest {
			if b.Blob.State == event.Waiting && e.Blob.State == event.Copying {
				b.began = e.Time
			}
			b.Event = e
			return b
		}
	}
	b := &blob{Event: e, began: e.Time}
	*blobs = append(*blobs, b)
	return b
}

// platformsOf is the platform of a step's stage and, after an arrow, that of the image if it is another.
func platformsOf(s *event.Step) string {
	if s.Target == "" {
		return s.Platform
	}
	return s.Platform + "→" + s.Target
}

// label names a step. Its platforms are named where the build has steps for several.
func (s *state) label(of *event.Step) string {
	if of.Count == 0 {
		return oneLine(of.Name)
	}
	where := of.Stage
	if len(s.platforms) > 1 {
		where = platformsOf(of) + " " + where
	}
	return fmt.Sprintf("[%s %d/%d] %s", where, of.Index, of.Count, oneLine(of.Name))
}

// lintLines are what lint rules found, in whole lines.
func (s *state) lintLines() []string {
	switch len(s.lint) {
	case 0:
		return nil
	case 1:
		return append([]string{"1 warning found:"}, s.lint...)
	}
	return append([]string{fmt.Sprintf("%d warnings found:", len(s.lint))}, s.lint...)
}

// isLayer reports whether people want to see the blob: not manifests and configurations.
func (b *blob) isLayer() bool {
	return strings.Contains(b.Blob.MediaType, "layer") || strings.Contains(b.Blob.MediaType, "rootfs")
}

// name is the start of the blob's digest.
func (b *blob) name() string {
	_, hex, _ := strings.Cut(b.Blob.Digest, ":")
	return hex[:min(12, len(hex))]
}

// line is how far the blob has come at a time, with a bar that fills the width.
func (b *blob) line(now time.Time, width int) string {
	head := b.name() + ": " + fmt.Sprintf("%-16s", stateWords(b.Blob.State))
	if b.Blob.State != event.Copying {
		return head
	}
	rate := float64(b.Bytes) / max(now.Sub(b.began).Seconds(), 0.001)
	tail := fmt.Sprintf(" %s %s/s", units.HumanSize(float64(b.Bytes)), units.HumanSize(rate))
	if b.Total <= 0 {
		return head + tail
	}
	left := time.Duration(float64(b.Total-b.Bytes) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	tail = fmt.Sprintf(" %s/%s %s/s %s", units.HumanSize(float64(b.Bytes)), units.HumanSize(float64(b.Total)), units.HumanSize(rate), left)
	room := max(10, width-len(head)-len(tail)-4)
	full := int(float64(room) * float64(b.Bytes) / float64(b.Total))
	full = min(max(full, 0), room)
	return head + " [" + strings.Repeat("=", full) + strings.Repeat(" ", room-full) + "]" + tail
}

func stateWords(s event.State) string {
	switch s {
	case event.Waiting:
		return "Waiting"
	case event.Copying:
		return "Copying"
	case event.Exists:
		return "Already exists"
	case event.Mounted:
		return "Mounted"
	case event.Copied:
		return "Done"
	}
	return string(s)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// failureTail is what a failed step printed last, framed.
func failureTail(label, tail string) string {
	if tail == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString("------\n > " + label + ":\n")
	for line := range strings.Lines(tail) {
		b.WriteString(strings.TrimRight(line, "\r\n") + "\n")
	}
	b.WriteString("------\n")
	return b.String()
}
