package executor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/internal/failpoint"
)

// publishEvery is how often layers are made durable while steps go on: seldom enough to cost little (a sync takes
// milliseconds, and much more with much written), often enough that a crash loses little.
const publishEvery = time.Second

// publishMany is how many layers are made durable at once: what is left for the end keeps the build waiting.
const publishMany = 16

// A publisher makes layers durable in batches and remembers each only after: an entry that named a layer which a power
// cut then took would be a lie. Steps never wait for it.
type publisher struct {
	publish func(ctx context.Context) error
	store   cache.Cache
	cancel  context.CancelCauseFunc // ends the build, for a layer that cannot be kept

	mu      sync.Mutex                  // guards pending
	pending []cache.Record[cache.Entry] // of steps that are done and not yet remembered

	once  sync.Once
	wake  chan struct{}
	many  chan struct{} // publishMany are pending
	quit  chan struct{}
	ended chan struct{}

	// Written by run; read after close.
	err          error // of publish
	unremembered error // the first of the cache: it may forget, so the build goes on
}

func newPublisher(o Options, cancel context.CancelCauseFunc) *publisher {
	return &publisher{
		publish: o.Publish, store: o.Cache, cancel: cancel,
		wake: make(chan struct{}, 1), many: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
	}
}

// add has an answer published and remembered soon. The first one starts the goroutine: a build from the cache has none.
func (p *publisher) add(key cache.Key, e cache.Entry) {
	p.mu.Lock()
	p.pending = append(p.pending, cache.Record[cache.Entry]{Key: key, Value: e})
	many := len(p.pending) >= publishMany
	p.mu.Unlock()
	p.once.Do(func() { go p.run() })
	signal(p.wake)
	if many {
		signal(p.many)
	}
}

// close publishes what is left, also after a failure: what is done is done. It waits for the end.
func (p *publisher) close() error {
	p.once.Do(func() { close(p.ended) })
	close(p.quit)
	<-p.ended
	return p.err
}

func (p *publisher) run() {
	defer close(p.ended)
	for quit := false; !quit; {
		select {
		case <-p.wake:
			select {
			case <-time.After(publishEvery): // others may come in the meantime
			case <-p.many:
			case <-p.quit:
				quit = true
			}
		case <-p.quit:
			quit = true
		}
		p.flush()
	}
}

// signal tells whoever waits for c, or will.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is told already
	}
}

func (p *publisher) flush() {
	p.mu.Lock()
	batch := p.pending
	p.pending = nil
	p.mu.Unlock()
	if len(batch) == 0 || p.err != nil {
		return
	}
	// Not the build's context: a build that was cancelled keeps what it has done.
	err := failpoint.At("executor.publish.before-publish")
	if err == nil {
		err = p.publish(context.Background())
	}
	if err != nil {
		p.err = fmt.Errorf("keeping layers: %w", err)
		p.cancel(p.err)
		return
	}
	for _, f := range batch {
		if p.err = failpoint.At("executor.publish.before-put"); p.err != nil {
			p.cancel(p.err)
			return
		}
		if err := p.store.Put(context.Background(), f.Key, f.Value); err != nil && p.unremembered == nil {
			p.unremembered = fmt.Errorf("remembering %s: %w", f.Value.Name, err)
		}
		if p.err = failpoint.At("executor.publish.after-put"); p.err != nil {
			p.cancel(p.err)
			return
		}
	}
}
