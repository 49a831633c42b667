package api

import (
	"sync"
	"time"

	"github.com/forge-build/forge"
)

// ready are the monitors that wait for containers that are about to be started: a client that attaches to a container starts it next.
// A container that is not started has none for long.
type ready struct {
	mu      sync.Mutex                            // guards waiting
	waiting map[string]func() *forge.ReadyMonitor // by the container's ID; it waits until the monitor is there, which is nil if it cannot be
}

const (
	readyTime = 3 * time.Second // how long a monitor waits
	maxReady  = 8               // how many wait at once: each is a process
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
