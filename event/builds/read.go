package builds

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/forge-build/forge/event"
)

// Events reads what a build has reported so far. The sequence ends with an error at a line that is no event; the last line of a build
// that runs, or was killed, may be torn and is left out.
func (r *Record) Events() iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		f, err := os.Open(r.path)
		if err != nil {
			yield(event.Event{}, err)
			return
		}
		defer f.Close() //nolint:errcheck // it was only read
		in, steps := bufio.NewReaderSize(f, writeAt), map[int]*event.Step{}
		for n := 1; ; n++ {
			line, err := in.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				return
			}
			var e event.Event
			if err == nil {
				err = json.Unmarshal(line, &e)
			}
			if err != nil {
				yield(event.Event{}, fmt.Errorf("build %s, line %d: %w", r.ID, n, err))
				return
			}
			if s := e.Step; s != nil && s.Name == "" { // it was told before
				e.Step = cmp.Or(steps[s.Number], s)
			} else if s != nil {
				steps[s.Number] = s
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}
