package solve

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
)

// A Translator turns the events of one build, pull or push into the news that they are. It is for one goroutine.
type Translator struct {
	// Clean takes from text of strangers what must not come before a reader: Line makes one line of it, Lines leaves its lines.
	Line, Lines func(string) string

	whole     *Vertex // of what belongs to no step: reading the build file, or all of a pull; nil before the first event
	began     map[int]*Time
	blobs     map[blobKey]event.Event
	platforms []string // of the steps
}

// A blobKey names a blob of a step; 0 is none.
type blobKey struct {
	step   int
	digest string
}

// vertexDigest names a step of a build; 0 is what belongs to none.
func vertexDigest(build string, step int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", build, step))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Translate returns the news of an event, which may be none.
func (t *Translator) Translate(e event.Event) (s Status) {
	if t.whole == nil || e.Kind == event.Begun {
		name := "[internal] load build definition"
		if e.Kind != event.Begun {
			name = "transfer"
		}
		t.whole = &Vertex{Digest: vertexDigest(e.Build, 0), Name: name, Started: NewTime(e.Time)}
		t.began, t.blobs, t.platforms = map[int]*Time{}, map[blobKey]event.Event{}, nil
		s.Vertexes = append(s.Vertexes, t.whole)
	}
	at := t.whole.Digest
	number := 0
	if e.Step != nil {
		number = e.Step.Number
		at = vertexDigest(e.Build, number)
		if p := PlatformsOf(e.Step); p != "" && !slices.Contains(t.platforms, p) {
			t.platforms = append(t.platforms, p)
		}
		if t.whole.Completed == nil && e.Kind == event.Planned {
			t.complete(e.Time)
			s.Vertexes = append(s.Vertexes, t.whole)
		}
		if v := t.vertex(e); v != nil {
			s.Vertexes = append(s.Vertexes, v)
		}
	}
	switch e.Kind {
	case event.Blob:
		s.Statuses = append(s.Statuses, statusOf(e, t.copying(blobKey{number, e.Blob.Digest}, e), at))
	case event.Log:
		s.Logs = append(s.Logs, VertexLog{Vertex: at, Stream: 1, Data: []byte(e.Text + "\n"), Timestamp: NewTime(e.Time)})
	case event.Explain, event.Note:
		s.Logs = append(s.Logs, VertexLog{Vertex: at, Stream: 2, Data: []byte(e.Text + "\n"), Timestamp: NewTime(e.Time)})
	case event.Warning, event.Lint:
		w := VertexWarning{Vertex: at, Level: 1, Short: []byte(e.Text)}
		if e.Source.Line > 0 {
			line := Position{Line: int32(e.Source.Line)}
			w.SourceInfo, w.Range = &SourceInfo{Filename: e.Source.File}, []LineRange{{line, line}}
		}
		s.Warnings = append(s.Warnings, w)
	case event.Ended:
		if t.whole.Completed == nil { // it failed before there were steps
			t.complete(e.Time)
			t.whole.Error = t.Lines(e.Error)
			s.Vertexes = append(s.Vertexes, t.whole)
		}
	}
	return s
}

// End returns the news that all is over, if nothing has said so.
func (t *Translator) End() (s Status) {
	if t.whole != nil && t.whole.Completed == nil {
		t.complete(time.Now())
		s.Vertexes = []*Vertex{t.whole}
	}
	return s
}

// copying is since when a blob is copied.
func (t *Translator) copying(key blobKey, e event.Event) time.Time {
	first, known := t.blobs[key]
	if !known || first.Blob.State == event.Waiting && e.Blob.State == event.Copying {
		t.blobs[key] = e
		return e.Time
	}
	return first.Time
}

// complete ends what belongs to no step.
func (t *Translator) complete(at time.Time) {
	ended := *t.whole
	ended.Completed = NewTime(at)
	t.whole = &ended
}

// vertex is a step after an event that changes it, nil after others.
func (t *Translator) vertex(e event.Event) *Vertex {
	of := e.Step
	v := &Vertex{Digest: vertexDigest(e.Build, of.Number), Name: Label(of, len(t.platforms), allDigits, t.Line)}
	for _, n := range of.Needs {
		v.Inputs = append(v.Inputs, vertexDigest(e.Build, n))
	}
	if e.Kind == event.Started {
		t.began[of.Number] = NewTime(e.Time)
	}
	v.Started = t.began[of.Number]
	switch e.Kind {
	case event.Planned, event.Started:
		return v
	case event.Cached:
		v.Started, v.Cached = NewTime(e.Time), true
	case event.Done:
	case event.Failed:
		v.Error = t.Lines(e.Error)
		if v.Started == nil {
			v.Started = NewTime(e.Time)
		}
	case event.Canceled:
		v.Error = "context canceled" // what buildx shows as CANCELED
	default:
		return nil
	}
	v.Completed = NewTime(e.Time)
	return v
}

const allDigits = 128

// Label names a step for people; digits are how many of a base's digest are shown. Its platforms are named where the build has several, and so are
// the targets that need it. Line makes one line of text of a stranger.
func Label(of *event.Step, platforms, digits int, line func(string) string) string {
	name := line(of.Name)
	if of.Digest != "" && !strings.Contains(name, "@") {
		algorithm, hex, _ := strings.Cut(of.Digest, ":")
		name += "@" + algorithm + ":" + hex[:min(digits, len(hex))]
	}
	where := line(event.JoinTargets(of.For))
	if of.Count == 0 {
		if where != "" {
			name = "[" + where + "] " + name
		}
		return name
	}
	where = strings.TrimSpace(where + " " + line(of.Stage))
	if platforms > 1 {
		where = PlatformsOf(of) + " " + where
	}
	return fmt.Sprintf("[%s %d/%d] %s", where, of.Index, of.Count, name)
}

// PlatformsOf is the platform of a step's stage and, after an arrow, that of the image if it is another.
func PlatformsOf(s *event.Step) string {
	if s.Target == "" {
		return s.Platform
	}
	return s.Platform + "→" + s.Target
}
