package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/forge-build/forge/internal/dirwatch"
)

// A Query says which events are read.
type Query struct {
	Since  time.Time // zero is the beginning
	Until  time.Time // zero is never
	Filter Filter
}

// Read shows the events that a query asks for, as they happen, until the time of its Until has come, show fails, or the
// context ends, whose cause it then returns.
func (j Journal) Read(ctx context.Context, q Query, show func(Message) error) error {
	watch := dirwatch.Open(filepath.Dir(j.path))
	defer watch.Close()
	r := &reader{path: j.path, query: q, show: show}
	defer func() { _ = closeFile(r.file) }()
	for {
		over := !q.Until.IsZero() && time.Now().After(q.Until) // asked first: what comes before the end is read after it
		if err := r.catchUp(); err != nil || over {
			return err
		}
		longest := time.Second
		if !q.Until.IsZero() {
			longest = min(longest, max(0, time.Until(q.Until)))
		}
		if err := watch.Wait(ctx, nil, longest); err != nil {
			return err
		}
	}
}

// A reader is one Read.
type reader struct {
	path  string
	query Query
	show  func(Message) error
	file  *os.File // that was read to its end; nil before the first
	rest  []byte   // of the file: a line that has no end yet
	piece []byte   // what was read last
}

// pieceSize is how much of a file is read at once, in bytes: several lines.
const pieceSize = 16 * maxLine

// catchUp reads to the end of the newest file.
func (r *reader) catchUp() error {
	for {
		if err := r.drain(); err != nil {
			return err
		}
		next, err := r.next()
		if next == nil || err != nil {
			return err
		}
		if err := errors.Join(r.drain(), closeFile(r.file)); err != nil { // what came before the rotation
			return errors.Join(err, next.Close())
		}
		r.file, r.rest = next, nil
		if err := r.skip(); err != nil {
			return err
		}
	}
}

// disorder is how far the times of neighbours in a file may be from their order: processes write beside each other.
const disorder = 10 * time.Second

// skip steps over events at the beginning of the file that are older than all that is wanted, without reading them: who waits for a
// container asks for what happens from now on. It looks back from the end, piece by piece. What it leaves may begin within a line.
func (r *reader) skip() error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	at := info.Size()
	for at > 0 {
		at = max(0, at-pieceSize)
		n, err := r.file.ReadAt(r.buffer(), at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if first, ok := firstEvent(r.piece[:n]); ok && time.Unix(0, first.TimeNano).Before(r.query.Since.Add(-disorder)) {
			break
		}
	}
	_, err = r.file.Seek(at, io.SeekStart)
	return err
}

// firstEvent is the first in a piece of a file that is there as a whole.
func firstEvent(text []byte) (_ Message, ok bool) {
	for line := range bytes.Lines(text) {
		var m Message
		if json.Unmarshal(line, &m) == nil && m.Type != "" {
			return m, true
		}
	}
	return Message{}, false
}

// buffer is where a piece is read to.
func (r *reader) buffer() []byte {
	if r.piece == nil {
		r.piece = make([]byte, pieceSize)
	}
	return r.piece
}

// next opens the file after the one that was read; nil if that is the newest. Two rotations since the last look lose what is
// between.
func (r *reader) next() (*os.File, error) {
	newest, err := open(r.path)
	if err != nil || same(newest, r.file) {
		return nil, errors.Join(err, closeFile(newest))
	}
	older, err := open(r.path + ".1") // after the newest: files only become older
	if err != nil {
		return nil, errors.Join(err, closeFile(newest))
	}
	if older == nil || same(older, r.file) || same(older, newest) {
		return newest, closeFile(older)
	}
	return older, closeFile(newest)
}

func open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no file is an answer
	}
	return f, err
}

func closeFile(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// same reports whether two open files are one.
func same(f, g *os.File) bool {
	if f == nil || g == nil {
		return false
	}
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := g.Stat()
	return err == nil && os.SameFile(a, b)
}

// drain shows the events of the file up to its end. Lines that are no events are stepped over.
func (r *reader) drain() error {
	if r.file == nil {
		return nil
	}
	for {
		n, err := r.file.Read(r.buffer())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		text := append(r.rest, r.piece[:n]...)
		end := bytes.LastIndexByte(text, '\n') + 1
		r.rest = bytes.Clone(text[end:])
		for line := range bytes.Lines(text[:end]) {
			if err := r.tell(line); err != nil {
				return err
			}
		}
	}
}

// tell shows the event of a line, if it is one that is wanted.
func (r *reader) tell(line []byte) error {
	var m Message
	if json.Unmarshal(line, &m) != nil || m.Type == "" || !r.query.wants(m) {
		return nil
	}
	return r.show(m)
}

func (q Query) wants(m Message) bool {
	at := time.Unix(0, m.TimeNano)
	return !at.Before(q.Since) && (q.Until.IsZero() || !at.After(q.Until)) && q.Filter.Match(m)
}
