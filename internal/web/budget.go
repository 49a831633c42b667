package web

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// ErrOffline is the error for what is not here, where nobody may be asked for it.
var ErrOffline = errors.New("is not here, and --offline asks nobody for it")

// Limits say when a client gives up. Zero fields have the default.
type Limits struct {
	Headers time.Duration // from the end of a request to its answer: 30 s
	Idle    time.Duration // without a byte moving in a body: 60 s
	GiveUp  time.Duration // without progress, over all tries of a request; no try begins after it: 110 s
	Backoff time.Duration // before the second try, doubling from there, ± 50 %: 300 ms
	Tries   int           // of a request without progress: 6
}

// OrDefaults returns the limits with defaults in the place of zeros.
func (l Limits) OrDefaults() Limits {
	or := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	or(&l.Headers, 30*time.Second)
	or(&l.Idle, 60*time.Second)
	or(&l.GiveUp, 110*time.Second)
	or(&l.Backoff, 300*time.Millisecond)
	if l.Tries <= 0 {
		l.Tries = 6
	}
	return l
}

// A Budget says how often and for how long an operation may fail before it is given up. It is for one goroutine.
type Budget struct {
	limits Limits
	tries  int
	since  time.Time // of the last progress
}

// NewBudget returns a budget.
func NewBudget(l Limits) *Budget { return &Budget{limits: l.OrDefaults(), since: time.Now()} }

// ProgressBytes is as much as has to move in a body that breaks off for the try to count as progress: no more than keeps a slow body
// from being given up (watch.go). A line that breaks all the time brings a blob all the same.
const ProgressBytes = minMoved

// longBody is from how many bytes on a server that was sent a body may take longer to answer.
const longBody = 1 << 20

// Progress forgets earlier failures: the operation got somewhere at t.
func (b *Budget) Progress(t time.Time) { b.tries, b.since = 0, t }

// Wait sleeps before the next try after err, or returns why there is none.
func (b *Budget) Wait(ctx context.Context, err error) error {
	delay, err := b.Retry(err)
	if err != nil {
		return err
	}
	return Sleep(ctx, delay)
}

// Until calls try until it succeeds, and returns its error if another try would not help or is not within the budget.
func (b *Budget) Until(ctx context.Context, try func() error) error {
	for {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !Retryable(err):
			return err
		}
		if err := b.Wait(ctx, err); err != nil {
			return err
		}
	}
}

// Sleep returns after d, or earlier with the error of ctx when that ends.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Retry returns how long to wait before the next try after err, or why there is none.
func (b *Budget) Retry(err error) (time.Duration, error) {
	b.tries++
	if b.tries >= b.limits.Tries {
		return 0, fmt.Errorf("%w (given up after %d tries)", err, b.tries)
	}
	delay := b.limits.Backoff << (b.tries - 1)
	delay = delay/2 + rand.N(delay)
	var de *DelayError
	if errors.As(err, &de) {
		delay = max(delay, de.Wait)
	}
	if spent := time.Since(b.since); spent+delay > b.limits.GiveUp {
		return 0, fmt.Errorf("%w (given up after %d tries in %s)", err, b.tries, spent.Round(time.Second))
	}
	return delay, nil
}

// Try is the number of the next try after those that brought nothing, and how many there are.
func (b *Budget) Try() (n, of int) { return b.tries + 1, b.limits.Tries }

// atMost is how long one try may wait for something that normally gets d, so that a last try does not outlast the budget
// by much.
func (b *Budget) atMost(d time.Duration) time.Duration {
	left := b.limits.GiveUp + b.limits.GiveUp/4 - time.Since(b.since)
	return max(min(d, left), d/8)
}

// answerTime is how long an answer may take when n bytes have been sent for it: a server may have to move them.
func (b *Budget) answerTime(n int64) time.Duration {
	if n < longBody {
		return b.atMost(b.limits.Headers)
	}
	const rate = 100 << 20 // bytes a second
	return b.limits.Headers + min(time.Duration(n/rate)*time.Second, 3*b.limits.Headers)
}

// A DelayError is a refusal that another try may turn, after a wait.
type DelayError struct {
	Err  error
	Wait time.Duration // that the server asks for; 0 if it asks for none
}

func (e *DelayError) Error() string { return e.Err.Error() }
func (e *DelayError) Unwrap() error { return e.Err }

// maxRetryAfter is as long as a server may make a client wait.
const maxRetryAfter = 60 * time.Second

// Refused returns err, which tells of an answer with an error status, as a [DelayError] if the same request may fare
// better later (RFC 9110, section 15), and else as it is.
func Refused(err error, resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
	case code >= 500 && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported:
	default:
		return err
	}
	return &DelayError{Err: err, Wait: retryAfter(resp.Header)}
}

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3), up to maxRetryAfter.
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
