// Package solve says what happens in a build, pull or push in BuildKit's words: as the SolveStatus that buildx shows and prints as JSON
// (client/graph.go), and that BuildKit's API sends as protocol buffers (api/services/control/control.proto).
package solve

import (
	"time"

	"github.com/forge-build/forge/event"
)

// A Status is the news since the one before. It has BuildKit's names and forms: digests of vertexes are what others refer to, texts of logs and
// warnings are base64 in JSON.
type Status struct {
	Vertexes []*Vertex       `json:"vertexes,omitempty" pb:"1"`
	Statuses []VertexStatus  `json:"statuses,omitempty" pb:"2"`
	Logs     []VertexLog     `json:"logs,omitempty" pb:"3"`
	Warnings []VertexWarning `json:"warnings,omitempty" pb:"4"`
}

// Empty reports whether there is no news.
func (s *Status) Empty() bool {
	return len(s.Vertexes)+len(s.Statuses)+len(s.Logs)+len(s.Warnings) == 0
}

// A Vertex is a step.
type Vertex struct {
	Digest    string   `json:"digest,omitempty" pb:"1"`
	Inputs    []string `json:"inputs,omitempty" pb:"2"`
	Name      string   `json:"name,omitempty" pb:"3"`
	Started   *Time    `json:"started,omitempty" pb:"5"`
	Completed *Time    `json:"completed,omitempty" pb:"6"`
	Cached    bool     `json:"cached,omitempty" pb:"4"`
	Error     string   `json:"error,omitempty" pb:"7"`
}

// A VertexStatus is how far a part of a step has come.
type VertexStatus struct {
	ID        string `json:"id" pb:"1"`
	Vertex    string `json:"vertex,omitempty" pb:"2"`
	Name      string `json:"name,omitempty" pb:"3"`
	Total     int64  `json:"total,omitempty" pb:"5"`
	Current   int64  `json:"current" pb:"4"`
	Timestamp *Time  `json:"timestamp" pb:"6"`
	Started   *Time  `json:"started,omitempty" pb:"7"`
	Completed *Time  `json:"completed,omitempty" pb:"8"`
}

// A VertexLog is what a step has printed.
type VertexLog struct {
	Vertex    string `json:"vertex,omitempty" pb:"1"`
	Stream    int64  `json:"stream,omitempty" pb:"3"`
	Data      []byte `json:"data" pb:"4"`
	Timestamp *Time  `json:"timestamp" pb:"2"`
}

// A VertexWarning is a warning about a step.
type VertexWarning struct {
	Vertex     string      `json:"vertex,omitempty" pb:"1"`
	Level      int64       `json:"level,omitempty" pb:"2"`
	Short      []byte      `json:"short,omitempty" pb:"3"`
	Detail     [][]byte    `json:"detail,omitempty" pb:"4"`
	URL        string      `json:"url,omitempty" pb:"5"`
	SourceInfo *SourceInfo `json:"sourceInfo,omitempty" pb:"6"`
	Range      []LineRange `json:"range,omitempty" pb:"7"`
}

// A SourceInfo names the file that a warning is about.
type SourceInfo struct {
	Filename string `json:"filename,omitempty" pb:"1"`
	Language string `json:"language,omitempty" pb:"4"`
}

// A LineRange is lines of it.
type LineRange struct {
	Start Position `json:"start" pb:"1"`
	End   Position `json:"end" pb:"2"`
}

// A Position is a line, from 1.
type Position struct {
	Line int32 `json:"line" pb:"1"`
}

// A Time is a google.protobuf.Timestamp; in JSON it is RFC 3339 with nanoseconds.
type Time struct {
	Seconds int64 `pb:"1"`
	Nanos   int32 `pb:"2"`

	at time.Time
}

// NewTime makes one of t.
func NewTime(t time.Time) *Time { return &Time{Seconds: t.Unix(), Nanos: int32(t.Nanosecond()), at: t} }

// MarshalJSON implements json.Marshaler.
func (t *Time) MarshalJSON() ([]byte, error) { return t.at.MarshalJSON() }

// statusOf is a blob's.
func statusOf(e event.Event, began time.Time, vertex string) VertexStatus {
	s := VertexStatus{
		ID: e.Blob.Digest, Vertex: vertex, Name: string(e.Blob.State) + " " + e.Blob.Digest,
		Total: max(0, e.Total), Current: e.Bytes, Timestamp: NewTime(e.Time),
	}
	if e.Blob.State != event.Waiting {
		s.Started = NewTime(began)
	}
	switch e.Blob.State {
	case event.Copied, event.Exists, event.Mounted:
		s.Completed = NewTime(e.Time)
	}
	return s
}
