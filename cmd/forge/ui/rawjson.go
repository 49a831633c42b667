package ui

import (
	"encoding/json"
	"io"
	"time"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/planner"
)

// rawJSON prints each event as a line of JSON.
type rawJSON struct {
	enc *json.Encoder
	labels
}

func newRawJSON(w io.Writer) *rawJSON {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &rawJSON{enc: enc}
}

// A rawEvent is a line of --progress=rawjson. Fields that have no meaning for an event are left out.
type rawEvent struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`
	Step    int       `json:"step,omitempty"` // from 1
	Name    string    `json:"name,omitempty"`
	Stage   string    `json:"stage,omitempty"`
	File    string    `json:"file,omitempty"`
	Line    int       `json:"line,omitempty"`
	Text    string    `json:"text,omitempty"`
	Seconds float64   `json:"seconds,omitempty"`
	Error   string    `json:"error,omitempty"`
}

func (r *rawJSON) print(e rawEvent) {
	e.Time = time.Now()
	_ = r.enc.Encode(e)
}

func (r *rawJSON) Plan(g *planner.Graph) {
	r.plan(g)
	for _, s := range g.Steps {
		r.print(rawEvent{
			Event: "planned", Step: r.order[s], Name: s.Name, Stage: s.Stage, File: s.Span.File, Line: s.Span.Start,
		})
	}
}

func (r *rawJSON) Event(e executor.Event) {
	raw := rawEvent{Event: string(e.Kind), Text: e.Text, Seconds: e.Duration.Seconds()}
	if e.Step != nil {
		raw.Step = r.order[e.Step]
	}
	if e.Err != nil {
		raw.Error = e.Err.Error()
	}
	r.print(raw)
}

func (r *rawJSON) Note(text string) { r.print(rawEvent{Event: "note", Text: text}) }

func (r *rawJSON) Close(outcome ...string) {
	for _, line := range outcome {
		r.print(rawEvent{Event: "outcome", Text: line})
	}
}
