// Package turn has callers wait for one of a number of places: the most urgent goes first and, of those that are as urgent, who came
// first.
package turn

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// A Queue is a number of places, and who waits for one. Safe for concurrent use.
type Queue struct {
	mu      sync.Mutex // guards all below
	free    int
	waiting []*caller // the last is the next
}

// New returns a queue for a number of places, all of which are free.
func New(places int) *Queue { return &Queue{free: places} }

// A caller waits for a place.
type caller struct {
	urgency float64
	called  chan struct{} // closed when it has a place
}

// Wait waits for a place. How urgent that is, it asks for only if none is free. Who has a place gives it back by Leave.
func (q *Queue) Wait(ctx context.Context, urgency func() float64) error {
	if q.enter() {
		return nil
	}
	c := q.add(urgency())
	select {
	case <-c.called:
		return nil
	case <-ctx.Done():
	}
	if !q.drop(c) { // it was called at the same time
		q.Leave()
	}
	return context.Cause(ctx)
}

// enter takes a place that is free.
func (q *Queue) enter() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free == 0 {
		return false
	}
	q.free--
	return true
}

// add adds a caller. It is called at once if a place has become free.
func (q *Queue) add(urgency float64) *caller {
	c := &caller{urgency, make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free > 0 {
		q.free--
		close(c.called)
		return c
	}
	at, _ := slices.BinarySearchFunc(q.waiting, urgency, func(c *caller, urgency float64) int { return cmp.Compare(c.urgency, urgency) })
	q.waiting = slices.Insert(q.waiting, at, c) // before those that are as urgent, which came before
	return c
}

// drop takes back a caller, unless it was called.
func (q *Queue) drop(c *caller) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.Index(q.waiting, c)
	if at < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, at, at+1)
	return true
}

// Leave gives a place back.
func (q *Queue) Leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	last := len(q.waiting) - 1
	if last < 0 {
		q.free++
		return
	}
	close(q.waiting[last].called)
	q.waiting[last] = nil
	q.waiting = q.waiting[:last]
}
