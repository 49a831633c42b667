package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/event/solve"
)

// logLines is how many of the last lines of a running step are kept.
const logLines = 6

// A state is what the events that came so far say of a build, pull, push or run. It depends on nothing else: the same
// events make the same state.
type state struct {
	palette
	begin     *event.BuildInfo // nil if it is no build
	began     time.Time
	id        string  // of the build
	steps     []*step // in the order of their numbers
	blobs     blobs   // of no step
	lint      []string
	platforms []string // of the steps
	end       *event.Event
}

// A status says how a step stands.
type status int

const (
	waiting status = iota
	running
	cached
	done
	failed
	canceled
)

// A step is one of a build.
type step struct {
	*event.Step
	status
	place int // of its stage and platforms: the lowest number of a step of them
	began time.Time
	ended time.Time
	took  time.Duration
	lines []string // the last that its command printed
	live  string   // the line that it is writing; "" if none
	blobs blobs    // that it brings here or sends away
	tail  string   // of one that failed: what its command printed last
}

// A blob is one that is copied.
type blob struct {
	event.Event
	began time.Time // of the copying
	shown event.State
}

// of returns the step that an event is about, nil if it is about none.
func (s *state) of(e *event.Step) *step {
	if e == nil {
		return nil
	}
	at, known := slices.BinarySearchFunc(s.steps, e.Number, func(of *step, n int) int { return cmp.Compare(of.Number, n) })
	if known {
		return s.steps[at]
	}
	of := &step{Step: e, place: e.Number}
	for _, other := range s.steps {
		if e.Stage != "" && other.Stage == e.Stage && solve.PlatformsOf(other.Step) == solve.PlatformsOf(e) && ownerOf(other.Step) == ownerOf(e) {
			of.place = min(of.place, other.place)
			other.place = of.place
		}
	}
	if name := solve.PlatformsOf(e); name != "" && !slices.Contains(s.platforms, name) {
		s.platforms = append(s.platforms, name)
	}
	s.steps = slices.Insert(s.steps, at, of)
	return of
}

// apply takes an event in. It returns the step and the blob that it is about, nil if there is none.
func (s *state) apply(e event.Event) (*step, *blob) {
	of := s.of(e.Step)
	switch e.Kind {
	case event.Begun:
		*s = state{palette: s.palette, lint: s.lint, begin: e.Begin, began: e.Time, id: e.Build}
	case event.Ended:
		s.end = &e
	case event.Lint:
		s.lint = append(s.lint, fmt.Sprintf(" - %s (line %d)", Lines(e.Text), e.Source.Line))
	case event.Blob:
		if of != nil {
			return of, of.blobs.add(e)
		}
		return nil, s.blobs.add(e)
	}
	if of != nil {
		of.apply(e, s.palette)
	}
	return of, nil
}

// apply takes an event of the step in.
func (of *step) apply(e event.Event, colors palette) {
	switch e.Kind {
	case event.Started:
		of.status, of.began = running, e.Time
	case event.Log:
		of.lines = append(of.lines, colors.log(e.Text))
		of.lines = of.lines[max(0, len(of.lines)-logLines):]
		of.live = ""
	case event.Progress:
		of.live = colors.log(e.Text)
	case event.Cached:
		of.end(cached, e)
	case event.Done:
		of.end(done, e)
	case event.Canceled:
		of.end(canceled, e)
	case event.Failed:
		of.end(failed, e)
		of.tail = e.Text
	}
}

func (of *step) end(how status, e event.Event) {
	of.status, of.ended, of.took = how, e.Time, e.Duration
}

// blobs are what events were about, each once, in the order in which they were first met. The zero value has none.
type blobs struct {
	all []*blob
	by  map[string]*blob // by digest
}

// add takes an event in, and returns the blob that it is about.
func (l *blobs) add(e event.Event) *blob {
	if b := l.by[e.Blob.Digest]; b != nil {
		if b.Blob.State == event.Waiting && e.Blob.State == event.Copying {
			b.began = e.Time
		}
		b.Event = e
		return b
	}
	if l.by == nil {
		l.by = map[string]*blob{}
	}
	b := &blob{Event: e, began: e.Time}
	l.all, l.by[e.Blob.Digest] = append(l.all, b), b
	return b
}

// count is how many steps stand one of some ways.
func (s *state) count(how ...status) (n int) {
	for _, of := range s.steps {
		if slices.Contains(how, of.status) {
			n++
		}
	}
	return n
}

// ownerOf is the first target that needs a step, "" where the build has one target.
func ownerOf(s *event.Step) string {
	if len(s.For) == 0 {
		return ""
	}
	return s.For[0]
}

// label names a step; digits are how many of a base's digest are shown. Its platforms are named where the build has steps for
// several, and so are the targets that need it.
func (s *state) label(of *event.Step, digits int) string {
	return solve.Label(of, len(s.platforms), digits, oneLine)
}

const (
	allDigits = 128
	fewDigits = 12
)

// lintLines are what lint rules found, in whole lines.
func (s *state) lintLines() []string {
	switch len(s.lint) {
	case 0:
		return nil
	case 1:
		return append([]string{s.paint(styleWarning, "1 warning found:")}, s.lint...)
	}
	return append([]string{s.paint(styleWarning, fmt.Sprintf("%d warnings found:", len(s.lint)))}, s.lint...)
}

// isLayer reports whether people want to see the blob: not manifests and configurations.
func (b *blob) isLayer() bool {
	return strings.Contains(b.Blob.MediaType, "layer") || strings.Contains(b.Blob.MediaType, "rootfs") || strings.HasPrefix(b.Blob.Digest, "file:")
}

// name is the start of the blob's digest, or the file's name.
func (b *blob) name() string {
	algorithm, hex, _ := strings.Cut(oneLine(b.Blob.Digest), ":")
	if algorithm == "file" {
		return hex
	}
	return hex[:min(fewDigits, len(hex))]
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

func seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", max(0, d.Seconds()))
	}
	return d.Truncate(time.Second).String()
}

// Size is a number of bytes in words, with three digits: "62.1 MB".
func Size(n int64) string {
	v, unit := float64(n), 0
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	for ; v >= 999.5 && unit < len(units)-1; unit++ {
		v /= 1000
	}
	digits := 0
	for top := 99.95; v < top && digits < 2 && unit > 0; top /= 10 {
		digits++
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if digits > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + " " + units[unit]
}

// failureTail is what a failed step printed last, framed.
func (s *state) failureTail(label, tail string) string {
	if tail == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString("------\n > " + cut(label, 76) + ":\n")
	for line := range strings.Lines(tail) {
		b.WriteString(s.log(strings.TrimRight(line, "\r\n")) + "\n")
	}
	b.WriteString("------\n")
	return b.String()
}
