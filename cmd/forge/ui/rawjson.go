package ui

import (
	"encoding/json"
	"io"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/event/solve"
)

// rawJSON prints lines of JSON as buildx does: each is a SolveStatus of BuildKit, the news since the line before.
type rawJSON struct {
	enc *json.Encoder
	to  solve.Translator
}

func newRawJSON(w io.Writer) *rawJSON {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &rawJSON{enc: enc, to: solve.Translator{Line: oneLine, Lines: Lines}}
}

func (r *rawJSON) Event(e event.Event) { r.print(r.to.Translate(e)) }

func (r *rawJSON) print(s solve.Status) {
	if !s.Empty() {
		_ = r.enc.Encode(s)
	}
}

func (r *rawJSON) Close(...string) { r.print(r.to.End()) }
