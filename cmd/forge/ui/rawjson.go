package ui

import (
	"encoding/json"
	"io"
	"time"

	"github.com/forge-build/forge/event"
)

// outcome is the kind of the last lines of --progress=rawjson: what was made, in words.
const outcome event.Kind = "outcome"

// rawJSON prints each event as a line of JSON.
type rawJSON struct{ enc *json.Encoder }

func newRawJSON(w io.Writer) *rawJSON {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &rawJSON{enc: enc}
}

func (r *rawJSON) Event(e event.Event) { _ = r.enc.Encode(e) }

func (r *rawJSON) Close(lines ...string) {
	for _, line := range lines {
		r.Event(event.Event{Time: time.Now(), Kind: outcome, Text: line})
	}
}
