package monitor

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

// A stdin is the standard input of a run: all who are attached may write to it.
type stdin struct {
	pieces chan []byte   // nil if the run has no input
	ended  chan struct{} // closed when nothing more is taken
	once   sync.Once     // closes it

	over    atomic.Bool  // somebody has ended it
	written atomic.Int64 // bytes
	rest    []byte       // of a piece, of who passes them on
	read    int64        // bytes of those that were written, by him
	passed  atomic.Int64 // of these, those that he has passed on: he has come back for more
}

// newStdin makes the standard input of a run; that of one that has none is the zero stdin.
func newStdin() *stdin { return &stdin{pieces: make(chan []byte), ended: make(chan struct{})} }

func (s *stdin) reader() io.Reader {
	if s.pieces == nil {
		return nil
	}
	return s
}

// Read is for one who passes on what it gets before he reads again.
func (s *stdin) Read(p []byte) (int, error) {
	s.passed.Store(s.read)
	if len(s.rest) == 0 {
		select {
		case s.rest = <-s.pieces:
		case <-s.ended:
			return 0, io.EOF
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	s.read += int64(n)
	return n, nil
}

// taken reports whether all that was written is the container's.
func (s *stdin) taken() bool { return s.written.Load() == s.passed.Load() }

var errEnded = errors.New("the standard input has ended")

// write passes on what somebody types, as long as he is there.
func (s *stdin) write(ctx context.Context, p []byte) (int, error) {
	if s.pieces == nil {
		return len(p), nil
	}
	n, err := len(p), error(nil)
	s.written.Add(int64(n))
	select {
	case s.pieces <- slices.Clone(p):
		return n, nil
	case <-s.ended:
		err = errEnded
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.written.Add(-int64(n))
	return 0, err
}

// eof ends the input.
func (s *stdin) eof() {
	s.over.Store(true)
	s.close()
}

// close ends the input for those who write. Who passes it on gets what was taken of them before.
func (s *stdin) close() {
	if s.ended != nil {
		s.once.Do(func() { close(s.ended) })
	}
}
