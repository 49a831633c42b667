package ui

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/forge-build/forge/event"
)

// rawJSON prints lines of JSON as buildx does: each is a SolveStatus of BuildKit (client/graph.go), the news since the line before.
type rawJSON struct {
	enc   *json.Encoder
	state state
	whole *vertex // of what belongs to no step: reading the build file, or all of a pull; nil before the first event
}

// A solveStatus, and what it holds, has BuildKit's names and forms: digests of vertexes are what others refer to, texts of logs and
// warnings are base64, times RFC 3339 with nanoseconds.
type solveStatus struct {
	Vertexes []*vertex       `json:"vertexes,omitempty"`
	Statuses []vertexStatus  `json:"statuses,omitempty"`
	Logs     []vertexLog     `json:"logs,omitempty"`
	Warnings []vertexWarning `json:"warnings,omitempty"`
}

type vertex struct {
	Digest    string     `json:"digest,omitempty"`
	Inputs    []string   `json:"inputs,omitempty"`
	Name      string     `json:"name,omitempty"`
	Started   *time.Time `json:"started,omitempty"`
	Completed *time.Time `json:"completed,omitempty"`
	Cached    bool       `json:"cached,omitempty"`
	Error     string     `json:"error,omitempty"`
}

type vertexStatus struct {
	ID        string     `json:"id"`
	Vertex    string     `json:"vertex,omitempty"`
	Name      string     `json:"name,omitempty"`
	Total     int64      `json:"total,omitempty"`
	Current   int64      `json:"current"`
	Timestamp time.Time  `json:"timestamp"`
	Started   *time.Time `json:"started,omitempty"`
	Completed *time.Time `json:"completed,omitempty"`
}

type vertexLog struct {
	Vertex    string    `json:"vertex,omitempty"`
	Stream    int       `json:"stream,omitempty"`
	Data      []byte    `json:"data"`
	Timestamp time.Time `json:"timestamp"`
}

type vertexWarning struct {
	Vertex     string      `json:"vertex,omitempty"`
	Level      int         `json:"level,omitempty"`
	Short      []byte      `json:"short,omitempty"`
	SourceInfo *sourceInfo `json:"sourceInfo,omitempty"`
	Range      []lineRange `json:"range,omitempty"`
}

type sourceInfo struct {
	Filename string `json:"filename,omitempty"`
}

type lineRange struct {
	Start position `json:"start"`
	End   position `json:"end"`
}

type position struct {
	Line int `json:"line"`
}

func newRawJSON(w io.Writer) *rawJSON {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &rawJSON{enc: enc}
}

// vertexDigest names a step of a build; 0 is what belongs to none.
func vertexDigest(build string, step int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", build, step))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (r *rawJSON) Event(e event.Event) {
	of, b := r.state.apply(e)
	var s solveStatus
	if r.whole == nil || e.Kind == event.Begun {
		name := "[internal] load build definition"
		if e.Kind != event.Begun {
			name = "transfer"
		}
		r.whole = &vertex{Digest: vertexDigest(e.Build, 0), Name: name, Started: &e.Time}
		s.Vertexes = append(s.Vertexes, r.whole)
	}
	at := r.whole.Digest
	if of != nil {
		at = vertexDigest(e.Build, of.Number)
		if r.whole.Completed == nil && e.Kind == event.Planned {
			r.complete(e.Time)
			s.Vertexes = append(s.Vertexes, r.whole)
		}
		if v := r.vertex(e, of); v != nil {
			s.Vertexes = append(s.Vertexes, v)
		}
	}
	switch e.Kind {
	case event.Blob:
		s.Statuses = append(s.Statuses, statusOf(b, at))
	case event.Log:
		s.Logs = append(s.Logs, vertexLog{Vertex: at, Stream: 1, Data: []byte(e.Text + "\n"), Timestamp: e.Time})
	case event.Explain, event.Note:
		s.Logs = append(s.Logs, vertexLog{Vertex: at, Stream: 2, Data: []byte(e.Text + "\n"), Timestamp: e.Time})
	case event.Warning, event.Lint:
		w := vertexWarning{Vertex: at, Level: 1, Short: []byte(e.Text)}
		if e.Source.Line > 0 {
			line := position{Line: e.Source.Line}
			w.SourceInfo, w.Range = &sourceInfo{Filename: e.Source.File}, []lineRange{{line, line}}
		}
		s.Warnings = append(s.Warnings, w)
	case event.Ended:
		if r.whole.Completed == nil { // it failed before there were steps
			r.complete(e.Time)
			r.whole.Error = Lines(e.Error)
			s.Vertexes = append(s.Vertexes, r.whole)
		}
	}
	r.print(s)
}

func (r *rawJSON) print(s solveStatus) {
	if len(s.Vertexes)+len(s.Statuses)+len(s.Logs)+len(s.Warnings) > 0 {
		_ = r.enc.Encode(s)
	}
}

// complete ends what belongs to no step.
func (r *rawJSON) complete(at time.Time) {
	ended := *r.whole
	ended.Completed = &at
	r.whole = &ended
}

// vertex is a step after an event that changes it, nil after others.
func (r *rawJSON) vertex(e event.Event, of *step) *vertex {
	v := &vertex{Digest: vertexDigest(e.Build, of.Number), Name: r.state.label(of.Step, allDigits)}
	for _, n := range of.Needs {
		v.Inputs = append(v.Inputs, vertexDigest(e.Build, n))
	}
	if !of.began.IsZero() {
		v.Started = &of.began
	}
	switch e.Kind {
	case event.Planned, event.Started:
		return v
	case event.Cached:
		v.Started, v.Cached = &e.Time, true
	case event.Done:
	case event.Failed:
		v.Error = Lines(e.Error)
		if v.Started == nil {
			v.Started = &e.Time
		}
	case event.Canceled:
		v.Error = "context canceled" // what buildx shows as CANCELED
	default:
		return nil
	}
	v.Completed = &e.Time
	return v
}

func statusOf(b *blob, vertex string) vertexStatus {
	s := vertexStatus{
		ID: b.Blob.Digest, Vertex: vertex, Name: string(b.Blob.State) + " " + b.Blob.Digest,
		Total: max(0, b.Total), Current: b.Bytes, Timestamp: b.Time,
	}
	if b.Blob.State != event.Waiting {
		s.Started = &b.began
	}
	switch b.Blob.State {
	case event.Copied, event.Exists, event.Mounted:
		s.Completed = &b.Time
	}
	return s
}

func (r *rawJSON) Close(...string) {
	if r.whole != nil && r.whole.Completed == nil {
		r.complete(time.Now())
		r.print(solveStatus{Vertexes: []*vertex{r.whole}})
	}
}
