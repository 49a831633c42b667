package builds

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/forge-build/forge/event"
)

// maxLine is the longest line that is read: a log line has 64 KiB, which JSON may write six times as long.
const maxLine = 1 << 20

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
		in := bufio.NewReaderSize(f, maxLine)
		for n := 1; ; n++ {
			line, err := in.ReadSlice('\n')
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
			if !yield(e, nil) {
				return
			}
		}
	}
}
