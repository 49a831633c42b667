package builds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/flock"
)

const (
	writeAt    = 64 << 10    // bytes that are gathered before they are written
	writeEvery = time.Second // and how long the first of them may wait
	small      = 1 << 20     // bytes that a build may have and not be counted: MaxBuilds of them are less than all may have
	maxError   = 8 << 10     // bytes of a build's error: the line with the end is read as a whole
)

// A Writer keeps the events of one build. One goroutine at a time uses it. Keeping is for people who look back: no error of it ends
// a build.
type Writer struct {
	store   Store
	name    string   // of the file
	file    *os.File // nil before the first write
	buf     []byte
	since   time.Time // when the first byte of buf came
	written int64
	counted int64 // of written, when the files of all builds were last counted
	totals  event.Totals
	full    bool // log lines are dropped from now on
	err     error
	told    map[int]told // steps that have been written, by number
}

// A told step is one that has been written whole, and the same with nothing but its number.
type told struct{ whole, brief *event.Step }

// Begin returns what keeps the events of a build. It makes no file before there is something to write.
func (s Store) Begin() *Writer { return &Writer{store: s} }

// Event takes an event in. What moves only a display is not kept: how a line stands, how a blob comes.
func (w *Writer) Event(e event.Event) {
	if w.name == "" {
		w.name = e.Time.UTC().Format(timeForm) + "-" + e.Build + suffix
	}
	switch e.Kind {
	case event.Progress:
		return
	case event.Blob:
		if e.Blob != nil && (e.Blob.State == event.Copying && e.Bytes > 0 || e.Blob.State == event.Waiting) {
			return
		}
	case event.Log:
		if w.full {
			return
		}
		if w.written+int64(len(w.buf)) > maxBuild {
			w.full = true
			e = event.Event{Time: e.Time, Build: e.Build, Kind: event.Note, Text: "what steps print from here on is not kept: the log has " + fmt.Sprint(maxBuild>>20) + " MB"}
		}
	case event.Planned:
		w.totals.Steps++
	case event.Cached:
		if e.Step.Kind != event.Base {
			w.totals.Cached++
		}
	case event.Failed:
		w.totals.Failed++
	case event.Done:
		w.totals.Done++
	case event.Canceled:
		w.totals.Canceled = true
	case event.Ended:
		e.Totals = &w.totals
		if len(e.Error) > maxError {
			e.Error = strings.ToValidUTF8(e.Error[:maxError], "") + "…"
		}
	}
	w.add(e)
	if e.Kind == event.Begun || e.Kind == event.Ended || len(w.buf) >= writeAt || e.Time.Sub(w.since) >= writeEvery {
		w.flush()
	}
}

// brief is a step as it is written: whole for the first time, and its number after that, since its name may have more bytes than all that it prints.
func (w *Writer) brief(s *event.Step) *event.Step {
	if s == nil {
		return nil
	}
	if t, ok := w.told[s.Number]; ok && t.whole == s {
		return t.brief
	}
	if w.told == nil {
		w.told = map[int]told{}
	}
	w.told[s.Number] = told{s, &event.Step{Number: s.Number}}
	return s
}

func (w *Writer) add(e event.Event) {
	if w.err != nil {
		return // nobody would write it
	}
	e.Step = w.brief(e.Step)
	if len(w.buf) == 0 {
		w.since = e.Time
	}
	line, err := event.AppendJSON(w.buf, e)
	if err != nil {
		w.err = errors.Join(w.err, err)
		return
	}
	w.buf = append(line, '\n')
}

// flush writes what has been gathered.
func (w *Writer) flush() {
	if w.err != nil || len(w.buf) == 0 {
		return
	}
	if w.file == nil {
		if w.file, w.err = w.open(); w.err != nil {
			return
		}
	}
	n, err := w.file.Write(w.buf)
	w.written, w.err, w.buf = w.written+int64(n), err, w.buf[:0]
	if w.written-w.counted > small && w.err == nil {
		w.counted = w.written
		_, _, w.err = w.store.Prune(MaxBuilds)
	}
}

// open makes the file, and room for it.
func (w *Writer) open() (*os.File, error) {
	path := filepath.Join(w.store.dir, w.name)
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(w.store.dir, 0o700); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, flags, 0o600)
	}
	if err != nil {
		return nil, err
	}
	// It waits for nobody but who asks just now whether it is locked.
	if err := flock.Wait(context.Background(), f, flock.Exclusive); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, w.store.keepLast()
}

// Close writes the rest. It returns the first error that there was.
func (w *Writer) Close() error {
	w.flush()
	if w.file == nil {
		return w.err
	}
	return errors.Join(w.err, w.file.Close())
}
