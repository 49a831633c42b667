package source

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// Layers opens stacks of layers as trees, each once for all who read them. It is the one door by which layers come to this
// machine that are not here yet. Safe for concurrent use; Close it when nobody reads any more.
type Layers struct {
	Snapshots *snapshot.Store
	Fetch     func(ctx context.Context, layers []image.Layer) error // brings layers here; nil if all are

	mu    sync.Mutex // guards views
	views map[digest.Digest]*sharedView
}

// A sharedView is opened by whoever asks first; the others wait for it.
type sharedView struct {
	once sync.Once
	view *snapshot.View
	err  error
}

// View reads layers as one tree. It is closed by Close.
func (l *Layers) View(ctx context.Context, layers []image.Layer) (*snapshot.View, error) {
	chain := image.ChainID(layers)
	l.mu.Lock()
	shared, ok := l.views[chain]
	if !ok {
		shared = &sharedView{}
		if l.views == nil {
			l.views = make(map[digest.Digest]*sharedView)
		}
		l.views[chain] = shared
	}
	l.mu.Unlock()

	shared.once.Do(func() {
		if shared.err = l.Ensure(ctx, layers); shared.err == nil {
			shared.view, shared.err = l.Snapshots.View(ctx, layers)
		}
	})
	return shared.view, shared.err
}

// Ensure makes sure that layers are here.
func (l *Layers) Ensure(ctx context.Context, layers []image.Layer) error {
	if l.Fetch == nil || len(layers) == 0 {
		return nil
	}
	return l.Fetch(ctx, layers)
}

// Close closes the views.
func (l *Layers) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, shared := range l.views {
		if shared.view != nil {
			errs = append(errs, shared.view.Close())
		}
	}
	l.views = nil
	return errors.Join(errs...)
}
