package executor

import (
	"context"
	"sync"

	"github.com/forge-build/forge/cache"
)

// flights are the jobs that a build does, by their keys: two steps that ask the same question are one job, also where the plan cannot know
// that, as with equal files of two contexts. Safe for concurrent use.
type flights struct {
	mu  sync.Mutex // guards all
	all map[cache.Key]*flight
}

// A flight is one job of a build. Its entry is written before landed is closed, and read after.
type flight struct {
	landed chan struct{}
	entry  cache.Entry
}

// of is the job of a key. It reports whether that is the first time, so that the caller has to do it.
func (f *flights) of(k cache.Key) (of *flight, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if of = f.all[k]; of != nil {
		return of, false
	}
	if f.all == nil {
		f.all = map[cache.Key]*flight{}
	}
	of = &flight{landed: make(chan struct{})}
	f.all[k] = of
	return of, true
}

// land says what came of the job. A job that fails never lands: it ends the build, and so the context of those that wait.
func (f *flight) land(e cache.Entry) {
	f.entry = e
	close(f.landed)
}

// wait waits for what comes of the job.
func (f *flight) wait(ctx context.Context) (cache.Entry, error) {
	select {
	case <-f.landed:
		return f.entry, nil
	case <-ctx.Done():
		return cache.Entry{}, ctx.Err()
	}
}
