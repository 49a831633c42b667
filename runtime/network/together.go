package network

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Visits are what callers of one process want to do under the account's lock at the same time. They do it one after the other under one lock,
// with one look at what is in use: a build may start a hundred containers at once, and to hand a lock on takes longer than to use it.
type visits struct {
	mu      sync.Mutex // guards what follows
	waiting []*visit
	led     bool // a goroutine does them
}

// A visit is what one caller does.
type visit struct {
	do    func(u *usage) error
	ended chan error // has what do returned
}

// visit calls do under the account's lock, with what is in use, once what dead processes left is removed. When ctx ends before do was begun, it
// is not called any more, and the error is the context's cause.
func (s *Store) visit(ctx context.Context, do func(u *usage) error) error {
	v := &visit{do, make(chan error, 1)}
	s.visits.mu.Lock()
	s.visits.waiting = append(s.visits.waiting, v)
	first := !s.visits.led
	s.visits.led = true
	s.visits.mu.Unlock()
	if first {
		go s.receive()
	}
	select {
	case err := <-v.ended:
		return err
	case <-ctx.Done():
	}
	if s.visits.withdraw(v) {
		return fmt.Errorf("lock %s: %w", s.account.root, context.Cause(ctx))
	}
	return <-v.ended
}

// withdraw takes back a visit that was not begun.
func (vs *visits) withdraw(v *visit) bool {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	i := slices.Index(vs.waiting, v)
	if i < 0 {
		return false
	}
	vs.waiting = slices.Delete(vs.waiting, i, i+1)
	return true
}

// next is who waits longest; nil if nobody does.
func (vs *visits) next() *visit {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if len(vs.waiting) == 0 {
		return nil
	}
	v := vs.waiting[0]
	vs.waiting = vs.waiting[1:]
	return v
}

// count is how many wait.
func (vs *visits) count() int {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	return len(vs.waiting)
}

// lead reports whether somebody waits. If nobody does, who comes next starts the goroutine anew.
func (vs *visits) lead() bool {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	vs.led = len(vs.waiting) > 0
	return vs.led
}

// receive does visits until none is left. Those that come while others are done wait until other processes have had their turn.
func (s *Store) receive() {
	for s.visits.lead() {
		s.receiveSome()
	}
}

// receiveSome does under one lock what waits when that is taken.
func (s *Store) receiveSome() {
	var u *usage
	lock, err := s.account.lock(context.Background()) // whose context ends is not done
	if err == nil {
		defer lock.Close()
		err = s.ensure("forwarding", mayForward)
	}
	for left := s.visits.count(); left > 0; left-- {
		if err == nil && u == nil {
			u, err = s.account.sweep()
		}
		v := s.visits.next()
		if v == nil {
			return
		}
		if err != nil {
			v.ended <- err
			continue
		}
		failed := v.do(u)
		if failed != nil {
			u = nil // it may say what is not so
		}
		v.ended <- failed
	}
}
