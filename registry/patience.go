package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxRetryAfter is as long as a registry may make us wait.
const maxRetryAfter = 60 * time.Second

// A waitError is a refusal that says when to come back.
type waitError struct {
	*ResponseError
	wait time.Duration
}

func (e *waitError) Unwrap() error { return e.ResponseError }

func retryAfter(h http.Header) time.Duration {
	s := h.Get("Retry-After")
	if s == "" {
		return 0
	}
	var wait time.Duration
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		wait = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		wait = time.Until(t)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// A budget says how often and for how long an operation may fail before it is given up.
type budget struct {
	limits   Limits
	retrying func(error)
	tries    int
	since    time.Time // of the last progress
}

func newBudget(l Limits, retrying func(error)) *budget {
	return &budget{limits: l, retrying: retrying, since: time.Now()}
}

// progress forgets past failures: the operation got somewhere at t.
func (b *budget) progress(t time.Time) { b.tries, b.since = 0, t }

// wait sleeps before the next try after err, or returns why there is none.
func (b *budget) wait(ctx context.Context, err error) error {
	b.tries++
	if b.tries >= b.limits.Tries {
		return fmt.Errorf("%w (given up after %d tries)", err, b.tries)
	}
	delay := b.limits.Backoff << (b.tries - 1)
	delay = delay/2 + rand.N(delay)
	var we *waitError
	if errors.As(err, &we) {
		delay = max(delay, we.wait)
	}
	if spent := time.Since(b.since); spent+delay > b.limits.GiveUp {
		return fmt.Errorf("%w (given up after %d tries in %s)", err, b.tries, spent.Round(time.Second))
	}
	if b.retrying != nil {
		b.retrying(err)
	}
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// patience is how long one try may wait for something to happen, so that a last try does not outlast the budget by much.
func (b *budget) patience(d time.Duration) time.Duration {
	left := b.limits.GiveUp + b.limits.GiveUp/4 - time.Since(b.since)
	return max(min(d, left), d/8)
}

// enough is as many bytes as have to move for a body not to be idle.
const enough = 16 << 10

// A watch cancels a try in which nothing happens. It runs while the other side is waited for, not while we are.
type watch struct {
	cancel context.CancelCauseFunc

	mu      sync.Mutex // guards what is below
	timer   *time.Timer
	end     time.Time     // when the timer fires
	left    time.Duration // while it stands
	full    time.Duration // what moving bytes restore left to
	moved   int
	retired bool
}

type stallError struct{ what string }

func (e *stallError) Error() string { return e.what }

// start lets the watch run for d from now; then the try fails with the reason what.
func (w *watch) start(d time.Duration, what string) {
	w.set(d)
	w.resume(0, what)
}

// set stops the watch and gives it d for the next resume.
func (w *watch) set(d time.Duration) {
	w.stop(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full, w.left, w.moved = d, d, 0
}

// stop halts the watch; n bytes have moved while it ran.
func (w *watch) stop(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moved += n
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
		w.left = time.Until(w.end)
	}
}

// resume goes on after a stop, with all its time again if enough bytes have moved; n have since.
func (w *watch) resume(n int, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.moved += n; w.moved >= enough {
		w.left, w.moved = w.full, 0
	}
	if w.retired || w.timer != nil {
		return
	}
	w.end = time.Now().Add(w.left)
	w.timer = time.AfterFunc(w.left, func() { w.cancel(&stallError{what}) })
}

// retire stops the watch for good, whoever still holds it.
func (w *watch) retire() {
	w.stop(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retired = true
}

// send sends a request once to u and wraps the bodies of both directions in deadlines.
func (o *origin) send(ctx context.Context, req *request, u *url.URL, authorization string, b *budget) (*http.Response, error) {
	tctx, cancel := context.WithCancelCause(ctx)
	hr, err := o.httpRequest(tctx, req, u, authorization)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	w := &watch{cancel: cancel}
	defer w.retire()
	var out *sentBody
	if hr.Body != nil && hr.Body != http.NoBody {
		out = &sentBody{r: hr.Body, w: w, b: b}
		hr.Body = out
	}
	w.start(b.answerTime(req.heavy), "the registry does not answer")
	transport := o.away
	if o.isHome(u) {
		transport = o.home
	}
	resp, err := transport.RoundTrip(hr)
	if err != nil {
		err = &connError{stalled(tctx, err)}
		cancel(nil)
		if ours := out.failure(); ours != nil {
			return nil, ours
		}
		return nil, err
	}
	in := &watch{cancel: cancel}
	in.set(b.patience(o.limits.Idle))
	resp.Body = &receivedBody{r: resp.Body, w: in, ctx: tctx}
	return resp, nil
}

// isHome tells whether u is at the registry's address, whatever the scheme.
func (o *origin) isHome(u *url.URL) bool {
	return strings.EqualFold(withPort(u.Scheme, u.Host), withPort(u.Scheme, o.host))
}

func (o *origin) httpRequest(ctx context.Context, req *request, u *url.URL, authorization string) (*http.Request, error) {
	var body io.ReadCloser
	if req.body != nil {
		var err error
		if body, err = req.body(); err != nil {
			return nil, err
		}
	}
	hr, err := http.NewRequestWithContext(ctx, req.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if body != nil {
		hr.Body, hr.ContentLength = body, req.size
		if req.size == 0 {
			hr.Body = http.NoBody
		}
	}
	for k, v := range req.header {
		hr.Header[k] = v
	}
	hr.Header.Set("User-Agent", o.userAgent)
	if authorization != "" {
		hr.Header.Set("Authorization", authorization)
	}
	return hr, nil
}

// A connError is a failure of the connection, or of one who speaks through it.
type connError struct{ err error }

func (e *connError) Error() string { return e.err.Error() }
func (e *connError) Unwrap() error { return e.err }

// stalled puts the watch's reason in the place of the cancellation it caused.
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
	b.w.resume(0, "the registry sends nothing more")
	n, err := b.r.Read(p)
	b.w.stop(n)
	if err != nil && err != io.EOF {
		err = &connError{stalled(b.ctx, err)}
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
	b    *budget
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
		s.w.set(s.b.patience(s.b.limits.Idle))
	} else {
		s.w.stop(0)
	}
	n, err := s.r.Read(p)
	s.sent += int64(n)
	if err != nil && err != io.EOF {
		s.err.Store(&err)
	}
	if err != nil {
		s.w.start(s.b.answerTime(s.sent), "the registry does not answer")
		return n, err
	}
	s.w.resume(n, "the registry takes nothing more")
	return n, nil
}

func (s *sentBody) Close() error { return s.r.Close() }

// answerTime is how long an answer may take when n bytes have been sent for it: a registry may have to move them.
func (b *budget) answerTime(n int64) time.Duration {
	if n < progressBytes {
		return b.patience(b.limits.Headers)
	}
	const rate = 100 << 20 // bytes a second
	return b.limits.Headers + min(time.Duration(n/rate)*time.Second, 3*b.limits.Headers)
}

// progressBytes is as much as has to move for a body that broke off to have got somewhere.
const progressBytes = 1 << 20
