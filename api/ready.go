package api

import (
	"sync"
	"time"

	"github.com/forge-build/forge"
)

// ready are the monitors that wait for containers that are about to be started: a client that attaches to a container starts it next.
// A container that is not started has none for long. Who has started one starts the next one soon: so for a while after a start a spare monitor
// waits for whichever container that is.
type ready struct {
	mu      sync.Mutex                            // guards all
	waiting map[string]func() *forge.ReadyMonitor // by the container's ID; it waits until the monitor is there, which is nil if it cannot be
	spare   *forge.ReadyMonitor                   // nil if there is none
	coming  bool                                  // a spare one is being started
}

const (
	readyTime = 3 * time.Second // how long a monitor waits
	maxReady  = 8               // how many wait at once: each is a process

	spareTime  = time.Minute           // how long a spare one waits
	spareDelay = 10 * time.Millisecond // until one is started: the container that took the last one is not to wait for that
)

// prepare has a monitor wait for a container. It returns at once.
func (r *ready) prepare(h *forge.Home, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[id] != nil || len(r.waiting) >= maxReady {
		return
	}
	if r.waiting == nil {
		r.waiting = map[string]func() *forge.ReadyMonitor{}
	}
	begun := sync.OnceValue(func() *forge.ReadyMonitor {
		if m := r.takeSpare(id); m != nil {
			return m
		}
		m, err := h.ReadyMonitor(id)
		if err != nil { // the start of the container says what is wrong
			return nil
		}
		return m
	})
	r.waiting[id] = begun
	go begun()
	time.AfterFunc(readyTime, func() {
		if m := r.take(id); m != nil {
			_ = m.Close()
		}
	})
}

// take returns the monitor that waits for a container, nil if none does. It is the caller's.
func (r *ready) take(id string) *forge.ReadyMonitor {
	r.mu.Lock()
	begun := r.waiting[id]
	delete(r.waiting, id)
	r.mu.Unlock()
	if begun == nil {
		return nil
	}
	return begun()
}

// takeForStart is take, or the spare one.
func (r *ready) takeForStart(id string) *forge.ReadyMonitor {
	if m := r.take(id); m != nil {
		return m
	}
	return r.takeSpare(id)
}

// takeSpare returns the spare monitor, which is for a container from now on; nil if there is none. It is the caller's.
func (r *ready) takeSpare(id string) *forge.ReadyMonitor {
	r.mu.Lock()
	m := r.spare
	r.spare = nil
	r.mu.Unlock()
	if m == nil {
		return nil
	}
	if err := m.For(id); err != nil { // it was killed
		_ = m.Close()
		return nil
	}
	return m
}

// keepSpare has a spare monitor wait, soon and for a while, if none does: for a container like another.
func (r *ready) keepSpare(h *forge.Home, like *forge.ContainerInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spare != nil || r.coming {
		return
	}
	r.coming = true
	time.AfterFunc(spareDelay, func() {
		m, err := h.SpareMonitor(*like)
		r.mu.Lock()
		r.coming = false
		if err == nil {
			r.spare = m
		}
		r.mu.Unlock()
		time.AfterFunc(spareTime, func() { r.drop(m) })
	})
}

// drop ends a spare monitor that nobody has taken.
func (r *ready) drop(m *forge.ReadyMonitor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m != nil && r.spare == m {
		r.spare = nil
		_ = m.Close()
	}
}
