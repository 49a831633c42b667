package executor

import (
	"bytes"
	"sync"
	"time"

	"github.com/forge-build/forge/planner"
)

// An EventKind says what an [Event] is about.
type EventKind string

// What can happen to a step. Each begins with Cached or Started; Started ends with Done or Failed, unless the build is
// cancelled.
const (
	Cached  EventKind = "cached"  // Duration is what the step took when it was done
	Started EventKind = "started" //
	Explain EventKind = "explain" // Text is a sentence: why the step is not reused
	Log     EventKind = "log"     // Text is a line that the step's command printed, without its end
	Done    EventKind = "done"    // Duration is what the step took
	Failed  EventKind = "failed"  // Err is a *StepError
	Warning EventKind = "warning" // Text is a sentence; Step may be nil
)

// An Event tells people what a build does.
type Event struct {
	Kind     EventKind
	Step     *planner.Step
	Text     string
	Duration time.Duration
	Err      error
}

// eventBacklog is how many events may wait for a slow reader before steps wait too: enough that no one notices, few
// enough that a command printing without end does not fill the memory.
const eventBacklog = 1024

// An eventQueue hands events to one function, one at a time and in order.
type eventQueue struct {
	events chan Event
	done   chan struct{}
}

// newEventQueue starts handing events to show, which may be nil.
func newEventQueue(show func(Event)) *eventQueue {
	if show == nil {
		return &eventQueue{}
	}
	q := &eventQueue{events: make(chan Event, eventBacklog), done: make(chan struct{})}
	go func() {
		defer close(q.done)
		for e := range q.events {
			show(e)
		}
	}()
	return q
}

func (q *eventQueue) send(e Event) {
	if q.events != nil {
		q.events <- e
	}
}

// close waits until everything sent has been shown. Nothing may be sent after it.
func (q *eventQueue) close() {
	if q.events != nil {
		close(q.events)
		<-q.done
	}
}

const (
	maxLine   = 64 << 10 // bytes of one Log event; what is longer comes in pieces
	tailLines = 20       // lines that a StepError keeps
	tailBytes = 16 << 10 // and how long they may be together
)

// A lineWriter turns what a command prints into Log events. A carriage return ends a line too, so that progress bars show
// as they move; with a line feed after it it ends one line, not two. Safe for concurrent use.
type lineWriter struct {
	emit func(line string)

	mu    sync.Mutex // guards all below
	line  []byte     // begun, not ended
	cr    bool       // the last byte was a carriage return
	tail  [][]byte   // the last lines
	bytes int        // in tail
}

// Write never fails.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		if w.cr {
			w.cr = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		end := bytes.IndexAny(p, "\r\n")
		if end < 0 {
			w.add(p)
			break
		}
		w.add(p[:end])
		w.flush()
		w.cr = p[end] == '\r'
		p = p[end+1:]
	}
	return n, nil
}

func (w *lineWriter) add(p []byte) {
	for len(w.line)+len(p) > maxLine {
		n := maxLine - len(w.line)
		w.line = append(w.line, p[:n]...)
		p = p[n:]
		w.flush()
	}
	w.line = append(w.line, p...)
}

func (w *lineWriter) flush() {
	w.emit(string(w.line))
	w.tail = append(w.tail, append([]byte(nil), w.line[:min(len(w.line), tailBytes)]...))
	w.bytes += len(w.tail[len(w.tail)-1])
	for len(w.tail) > tailLines || w.bytes > tailBytes && len(w.tail) > 1 {
		w.bytes -= len(w.tail[0])
		w.tail = w.tail[1:]
	}
	w.line = w.line[:0]
}

// close emits a line that has no end and returns the last lines.
func (w *lineWriter) close() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.line) > 0 {
		w.flush()
	}
	return bytes.Join(w.tail, []byte("\n"))
}
