package event

import (
	"sync"
	"time"
)

// backlog is how many events may wait for a slow reader before senders wait too: enough that no one notices, few enough
// that a command which prints without end does not fill the memory.
const backlog = 1024

// A Queue passes events of one build, pull, push, … to a sink: one at a time, in the order in which they were sent, with
// time and name of the operation.
type Queue struct {
	build  string
	events chan Event // nil if nobody takes them
	done   chan struct{}

	mu     sync.RWMutex // guards closed; held by senders while they wait for room
	closed bool
}

// NewQueue starts passing events to sink, which may be nil. The queue is to be closed.
func NewQueue(build string, sink Sink) *Queue {
	if sink == nil {
		return &Queue{}
	}
	q := &Queue{build: build, events: make(chan Event, backlog), done: make(chan struct{})}
	go func() {
		defer close(q.done)
		for e := range q.events {
			sink(e)
		}
	}()
	return q
}

// Send passes e on, with the time if it has none. After Close it drops it. Safe for concurrent use.
func (q *Queue) Send(e Event) {
	if q.events == nil {
		return
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Build = q.build
	q.events <- e
}

// Sink is what sends to q; nil if nobody takes the events, so that senders can save the work of making them.
func (q *Queue) Sink() Sink {
	if q.events == nil {
		return nil
	}
	return q.Send
}

// Close waits until the sink has taken everything. It may be called again.
func (q *Queue) Close() {
	if q.events == nil {
		return
	}
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.events)
	}
	q.mu.Unlock()
	<-q.done
}

// Stamped is a sink that passes events on at once, one at a time, with the time and the name of the operation. Who must see an
// event before the sender goes on uses it and not a [Queue]. Safe for concurrent use; nil if sink is.
func Stamped(build string, sink Sink) Sink {
	if sink == nil {
		return nil
	}
	var mu sync.Mutex // held while sink is called
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Time.IsZero() {
			e.Time = time.Now()
		}
		e.Build = build
		sink(e)
	}
}
