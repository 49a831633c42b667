package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// minMoved is as many bytes as have to move in a body within a watch's window. It ends servers that send for ever and
// never finish; lines of 40 bytes a second are fast enough.
const minMoved = 4 << 10

// A watch cancels a try in which nothing happens, or next to nothing. It runs while the other side is waited for, and
// stands while the other side waits for us.
type watch struct {
	cancel context.CancelCauseFunc
	peer   string // in messages: the registry

	mu      sync.Mutex // guards what is below
	timer   *time.Timer
	begun   time.Time     // when the timer was started
	idle    time.Duration // the longest wait for a byte
	window  time.Duration // the longest wait for minMoved bytes; 0 is for ever
	silent  time.Duration // waited since the last byte
	slow    time.Duration // waited since moved was 0
	moved   int
	retired bool
}

type stallError struct{ what string }

func (e *stallError) Error() string { return e.what }

// start lets the watch run for d from now; then the try fails with the reason what.
func (w *watch) start(d time.Duration, what string) {
	w.set(d, 0)
	w.resume(what)
}

// set stops the watch and sets its limits for the next resume.
func (w *watch) set(idle, window time.Duration) {
	w.stop(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle, w.window, w.silent, w.slow, w.moved = idle, window, 0, 0, 0
}

// stop halts the watch; n bytes have moved since the last stop.
func (w *watch) stop(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
		waited := time.Since(w.begun)
		w.silent += waited
		w.slow += waited
	}
	if n > 0 {
		w.silent = 0
	}
	if w.moved += n; w.moved >= minMoved {
		w.slow, w.moved = 0, 0
	}
}

// resume goes on after a stop; what is the reason if nothing happens from here on.
func (w *watch) resume(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.retired || w.timer != nil {
		return
	}
	left := w.idle - w.silent
	if slow := w.window - w.slow; w.window > 0 && slow < left {
		left, what = slow, fmt.Sprintf("the %s is too slow: fewer than %d bytes in %s", w.peer, minMoved, w.window.Round(time.Second/10))
	}
	w.begun = time.Now()
	w.timer = time.AfterFunc(left, func() { w.cancel(&stallError{what}) })
}

// retire stops the watch for good, whoever still holds it.
func (w *watch) retire() {
	w.stop(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retired = true
}

// stalled puts the watch's reason in the place of the cancellation that it caused.
func stalled(ctx context.Context, err error) error {
	var s *stallError
	if errors.As(context.Cause(ctx), &s) {
		return s
	}
	return err
}

// A receivedBody is an answer's body that must not dry up.
type receivedBody struct {
	r   io.ReadCloser
	w   *watch
	ctx context.Context
}

func (b *receivedBody) Read(p []byte) (int, error) {
	b.w.resume("the " + b.w.peer + " sends nothing more")
	n, err := b.r.Read(p)
	b.w.stop(n)
	if err != nil && err != io.EOF {
		err = &ConnError{stalled(b.ctx, err)}
	}
	return n, err
}

func (b *receivedBody) Close() error {
	b.w.retire()
	err := b.r.Close()
	b.w.cancel(nil)
	return err
}

// A sentBody is a request's body. The time between two reads is the network's; the time of a read is ours.
type sentBody struct {
	r    io.ReadCloser
	w    *watch
	b    *Budget
	last int // bytes that the last read gave
	sent int64
	err  atomic.Pointer[error] // of the source: not the network's, so that no new try helps
}

func (s *sentBody) failure() error {
	if s == nil || s.err.Load() == nil {
		return nil
	}
	return *s.err.Load()
}

func (s *sentBody) Read(p []byte) (int, error) {
	if s.sent == 0 {
		s.w.set(s.b.atMost(s.b.limits.Idle), s.b.atMost(s.b.limits.GiveUp))
	} else {
		s.w.stop(s.last) // it has been taken
	}
	n, err := s.r.Read(p)
	s.last = n
	s.sent += int64(n)
	if err != nil && err != io.EOF {
		s.err.Store(&err)
	}
	if err != nil {
		s.w.start(s.b.answerTime(s.sent), "the "+s.w.peer+" does not answer")
		return n, err
	}
	s.w.resume("the " + s.w.peer + " takes nothing more")
	return n, nil
}

func (s *sentBody) Close() error { return s.r.Close() }
