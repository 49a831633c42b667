// Package flight has what several ask for done once.
package flight

import (
	"context"
	"sync"
)

// A Group is work by key: who asks first does it, and the others wait for what comes of it, which is remembered. The zero value is
// empty. Safe for concurrent use.
type Group[K comparable, V any] struct {
	mu  sync.Mutex // guards all
	all map[K]*Flight[V]
}

// A Flight is work that somebody does. Its value is written before landed is closed, and read after.
type Flight[V any] struct {
	landed chan struct{}
	value  V
}

// New is work that is in no group.
func New[V any]() *Flight[V] { return &Flight[V]{landed: make(chan struct{})} }

// Of is the work of a key. It reports whether that is asked for the first time, so that the caller has to do it, and [Flight.Land].
func (g *Group[K, V]) Of(k K) (f *Flight[V], first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f = g.all[k]; f != nil {
		return f, false
	}
	if g.all == nil {
		g.all = map[K]*Flight[V]{}
	}
	f = New[V]()
	g.all[k] = f
	return f, true
}

// Take is the work of a key, which is asked for anew from then on; nil if nobody has asked for it.
func (g *Group[K, V]) Take(k K) *Flight[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.all[k]
	delete(g.all, k)
	return f
}

// Find is the work of a key; nil if nobody has asked for it.
func (g *Group[K, V]) Find(k K) *Flight[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all[k]
}

// Land says what came of the work. What never lands is waited for until the context of those who wait ends.
func (f *Flight[V]) Land(v V) {
	f.value = v
	close(f.landed)
}

// Wait waits for what comes of the work.
func (f *Flight[V]) Wait(ctx context.Context) (v V, err error) {
	select {
	case <-f.landed:
		return f.value, nil
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
}
