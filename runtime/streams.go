package runtime

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// streams are the standard streams of a process that this program copies.
type streams struct {
	file   [3]*os.File    // our ends of pipes, or the master of a pty for the second; nil is not copied
	over   [3]atomic.Bool // nothing is copied any more
	out    [3]io.Writer   // where to
	copies sync.WaitGroup // of output

	mu  sync.Mutex // guards err
	err error      // why something could not be written
}

// feed copies input to the process. Nobody waits for that: a reader that never ends must not outlive the container's end.
// Closing the pipe ends it at its next write.
func (s *streams) feed(in io.Reader) {
	go func() {
		_, _ = io.Copy(s.file[0], in)
		s.over[0].Store(true)
		s.file[0].Close()
	}()
}

// drain copies output n of the process, until nobody can write any more, or the deadline of reads has come.
func (s *streams) drain(n int, out io.Writer) {
	s.out[n] = out
	s.copies.Go(func() {
		_, err := io.Copy(out, s.file[n])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil && !errors.Is(err, unix.EIO): // which the master says when nobody has the slave open any more
			s.fail(err)
			_, _ = io.Copy(io.Discard, s.file[n]) // or the process would hang
		}
		s.over[n].Store(true)
	})
}

// expire has the copying of output end at a time, and with it what this has read before is written.
func (s *streams) expire(at time.Time) {
	for _, f := range s.file[1:] {
		if f != nil {
			_ = f.SetReadDeadline(at)
		}
	}
}

// halt ends the copying of output, so that nothing that was read is not written.
func (s *streams) halt() {
	s.expire(time.Unix(1, 0))
	s.copies.Wait()
}

// goOn is for after halt.
func (s *streams) goOn() {
	s.expire(time.Time{})
	for n, f := range s.file {
		if n > 0 && f != nil && !s.over[n].Load() {
			s.drain(n, s.out[n])
		}
	}
}

// fail keeps an error for Wait.
func (s *streams) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}

func (s *streams) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *streams) close() {
	for _, f := range s.file {
		if f != nil {
			f.Close()
		}
	}
}
