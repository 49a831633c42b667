package api

import (
	"runtime/debug"
	"sync"
	"time"
)

// activity knows whether something is being answered, and when that ended.
type activity struct {
	mu    sync.Mutex // guards all below
	calls int
	idle  time.Duration // 0 is for ever
	timer *time.Timer   // that ends the server; nil if it does not
	quiet *time.Timer   // that gives memory back
}

// quietTime is how long no answer ends until memory that is free goes back to the kernel: 500 requests at once take 70 MB.
const quietTime = 3 * time.Second

// watch calls stop when nothing was asked for so long. What it returns ends that.
func (a *activity) watch(idle time.Duration, stop func()) (end func()) {
	if idle <= 0 {
		return func() {}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle, a.timer = idle, time.AfterFunc(idle, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.calls == 0 {
			stop()
		}
	})
	return func() { a.timer.Stop() }
}

func (a *activity) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if a.timer != nil {
		a.timer.Stop()
	}
}

func (a *activity) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls--; a.calls == 0 && a.timer != nil {
		a.timer.Reset(a.idle)
	}
	if a.quiet != nil { // also while a stream goes on that has no end, as those of events
		a.quiet.Reset(quietTime)
		return
	}
	a.quiet = time.AfterFunc(quietTime, debug.FreeOSMemory)
}
