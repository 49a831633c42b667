package monitor

import (
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/forge-build/forge/container/logs"
)

// A fan hands what the container writes to its log and to all who are attached.
type fan struct {
	log *logs.Writer

	mu    sync.Mutex    // guards all below, and the order of what is written
	wrote time.Duration // when something was written last, by the machine's clock
	subs  map[*subscriber]bool
	last  *frame // for who comes when all is over; nil before
}

func newFan(log *logs.Writer) *fan { return &fan{log: log, subs: map[*subscriber]bool{}} }

// writer takes what the container writes to stream 1 or 2.
func (f *fan) writer(stream byte) io.Writer { return &fanWriter{f, stream} }

type fanWriter struct {
	fan    *fan
	stream byte
}

// Write never fails: nobody who listens, and no disk, is in the way of the container.
func (w *fanWriter) Write(p []byte) (int, error) {
	w.fan.mu.Lock()
	w.fan.wrote = clock()
	w.fan.log.Write(logs.Stream(w.stream), p, time.Now())
	w.fan.log.Flush()
	var wait []*subscriber
	for s := range w.fan.subs {
		if s.streams[w.stream] && !s.put(frame{w.stream, p}) {
			wait = append(wait, s)
		}
	}
	w.fan.mu.Unlock()
	for _, s := range wait {
		s.wait()
	}
	return len(p), nil
}

// hurry lets nobody who is attached keep what is left in the container's pipes from being read: nothing else can come.
func (f *fan) hurry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		s.hurry()
	}
}

// remember is what the log needs to be written further by another program, and whether it can be now.
func (f *fan) remember() (logs.Memory, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.Remember()
}

// end tells all who are attached that the container has ended. They get what it wrote before.
func (f *fan) end(code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log.End(1, time.Now())
	f.log.End(2, time.Now())
	f.log.Flush()
	f.finish(endFrame(code))
}

// close is end for who has come since, and who comes now: there is no other run.
func (f *fan) close(code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := endFrame(code)
	f.finish(last)
	f.last = &last
}

// abort lets go of all who are attached: the container was not started.
func (f *fan) abort() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finish(frame{})
	f.last = &frame{}
}

// finish sends all who are attached a last frame. The caller holds mu.
func (f *fan) finish(last frame) {
	for s := range f.subs {
		s.finish(last)
		if !s.patient {
			time.AfterFunc(drainTime, s.cut)
		}
	}
	f.subs = map[*subscriber]bool{}
}

// add attaches somebody.
func (f *fan) add(s *subscriber) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last != nil {
		s.finish(*f.last)
		return
	}
	f.subs[s] = true
}

func endFrame(code int) frame { return frame{streamEnd, []byte(strconv.Itoa(code))} }

func (f *fan) remove(s *subscriber) {
	f.mu.Lock()
	delete(f.subs, s)
	f.mu.Unlock()
	s.finish(frame{})
}

const (
	// maxQueue is how many bytes wait for somebody who is slower than the container.
	maxQueue = 1 << 20
	// patience is how long the container waits for somebody who takes nothing of that.
	patience = time.Second
	// drainTime is how long somebody may take, when the container has ended, to get what it wrote. Who was there from the
	// beginning may take longer.
	drainTime = 10 * time.Second
)

// A subscriber is somebody who is attached. What is sent to it waits in a queue, of which a goroutine takes.
type subscriber struct {
	streams [3]bool // which of 1 and 2 it wants
	patient bool    // the container waits for it, as it would for a pipe; who else is too slow is cut off
	send    func(frame) error
	cut     func() // lets a send end soon

	mu     sync.Mutex // guards all below
	change *sync.Cond
	queue  []frame
	bytes  int
	hasty  bool          // nobody waits for it any more
	closed bool          // nothing is taken any more
	done   chan struct{} // closed when all is sent, or nothing can be
}

// newSubscriber makes one, to whom nothing is sent before run.
func newSubscriber(send func(frame) error) *subscriber {
	s := &subscriber{send: send, done: make(chan struct{})}
	s.change = sync.NewCond(&s.mu)
	return s
}

// put queues a copy of a frame. It returns false if the queue is full, so that the container is to wait.
func (s *subscriber) put(f frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	s.queue = append(s.queue, frame{f.stream, append([]byte(nil), f.data...)})
	s.bytes += len(f.data)
	s.change.Broadcast()
	return s.bytes <= maxQueue
}

// wait waits until the queue is shorter. Who takes nothing at all for a while is cut off, unless it is to be waited for.
func (s *subscriber) wait() {
	if !s.patient {
		timer := time.AfterFunc(patience, s.lose)
		defer timer.Stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes > maxQueue && !s.closed && !s.hasty {
		s.change.Wait()
	}
}

// hurry ends the waiting, now and in future.
func (s *subscriber) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hasty = true
	s.change.Broadcast()
}

// lose cuts off who is too slow.
func (s *subscriber) lose() {
	s.mu.Lock()
	s.closed, s.queue, s.bytes = true, []frame{{streamLost, []byte("the reader was too slow, and was cut off; forge logs has what it missed")}}, 0
	s.change.Broadcast()
	s.mu.Unlock()
	s.cut()
}

// finish lets nothing more into the queue, after a last frame.
func (s *subscriber) finish(last frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if last.stream != 0 {
		s.queue = append(s.queue, last)
	}
	s.closed = true
	s.change.Broadcast()
}

// run sends what is in the queue.
func (s *subscriber) run() {
	defer close(s.done)
	for {
		s.mu.Lock()
		for len(s.queue) == 0 && !s.closed {
			s.change.Wait()
		}
		if len(s.queue) == 0 {
			s.mu.Unlock()
			return
		}
		f := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		err := s.send(f)
		s.mu.Lock()
		if s.bytes -= len(f.data); s.bytes < 0 { // lost meanwhile
			s.bytes = 0
		}
		if err != nil {
			s.closed, s.queue, s.bytes = true, nil, 0
		}
		s.change.Broadcast()
		s.mu.Unlock()
	}
}
