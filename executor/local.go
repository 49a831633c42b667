package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/source"
)

// Local does jobs on this machine. Its fields are set before the first job and not changed after. Safe for concurrent
// use; Close it when no job is running any more.
type Local struct {
	Snapshots *snapshot.Store
	Layout    *image.Layout
	Digests   *cache.Store[string]          // of trees, by what they are made of; nil remembers none
	Downloads *cache.Store[source.Download] // what servers said of versions; nil remembers nothing
	Contexts  map[string]snapshot.Tree      // "" is the main one
	Epoch     *time.Time                    // SOURCE_DATE_EPOCH: no file of a layer is younger; nil is no limit

	// Fetch brings layers here that are not here yet. Nil means that all are.
	Fetch func(ctx context.Context, layers []image.Layer) error

	// What RUN may use. Limits and Hosts hold for all of them.
	Containers *container.Factory
	Allow      planner.Entitlements
	Limits     runtime.Limits
	Hosts      []container.Host

	mu    sync.Mutex // guards views
	views map[digest.Digest]*lentView
	pins  pins
}

// Describe adds to h what the job reads: digests of files, not their names or times.
func (w *Local) Describe(ctx context.Context, job Job, h *cache.Hash) error {
	switch op := job.Op.(type) {
	case *planner.Copy:
		return w.describeCopy(ctx, job, op, h)
	case *planner.Run:
		return w.describeRun(ctx, job, op, h)
	case *planner.Mkdir, *planner.Base:
		return nil
	}
	return fmt.Errorf("no such operation: %T", job.Op)
}

// Do does the job. The layer is staged, not yet durable.
func (w *Local) Do(ctx context.Context, job Job, log io.Writer) (image.Layer, error) {
	switch op := job.Op.(type) {
	case *planner.Copy:
		return w.doCopy(ctx, job, op, log)
	case *planner.Run:
		return w.doRun(ctx, job, op, log)
	case *planner.Mkdir:
		return w.doMkdir(ctx, job, op)
	}
	return image.Layer{}, fmt.Errorf("no such job: %T", job.Op)
}

// A lentView is opened by whoever asks first; the others wait for it.
type lentView struct {
	once sync.Once
	view *snapshot.View
	err  error
}

// view reads layers as one tree, fetching what is not here. Views are shared by jobs and closed by Close.
func (w *Local) view(ctx context.Context, layers []image.Layer) (*snapshot.View, error) {
	chain := image.ChainID(layers)
	w.mu.Lock()
	lent, ok := w.views[chain]
	if !ok {
		lent = &lentView{}
		if w.views == nil {
			w.views = make(map[digest.Digest]*lentView)
		}
		w.views[chain] = lent
	}
	w.mu.Unlock()

	lent.once.Do(func() {
		if lent.err = w.fetch(ctx, layers); lent.err == nil {
			lent.view, lent.err = w.Snapshots.View(ctx, layers)
		}
	})
	return lent.view, lent.err
}

// fetch makes sure that layers are here.
func (w *Local) fetch(ctx context.Context, layers []image.Layer) error {
	if w.Fetch == nil || len(layers) == 0 {
		return nil
	}
	return w.Fetch(ctx, layers)
}

// tree is what an input names: a build context or the file system of a step.
func (w *Local) tree(ctx context.Context, job Job, in planner.Input) (snapshot.Tree, error) {
	if in.Read >= 0 {
		return w.view(ctx, job.Reads[in.Read])
	}
	if t, ok := w.Contexts[in.Context]; ok {
		return t, nil
	}
	if in.Context == "" {
		return nil, errors.New("there is no build context")
	}
	return nil, fmt.Errorf("there is no build context %q", in.Context)
}

// remember returns the digest that is known for question, or asks compute for it and keeps it. The question must name
// contents only, since an answer is kept for ever. That it cannot be kept costs time and is no fault of the build.
func (w *Local) remember(ctx context.Context, question *cache.Hash, compute func() (string, error)) (string, error) {
	if w.Digests == nil {
		return compute()
	}
	key := question.Key()
	if known, ok, err := w.Digests.Get(ctx, key); ok && err == nil {
		return known, nil
	}
	value, err := compute()
	if err != nil {
		return "", err
	}
	_ = w.Digests.Put(ctx, key, value)
	return value, nil
}

// Close gives back the views and files that jobs shared, and closes Containers.
func (w *Local) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, lent := range w.views {
		if lent.view != nil {
			errs = append(errs, lent.view.Close())
		}
	}
	w.views = nil
	if w.Containers != nil {
		errs = append(errs, w.Containers.Close())
	}
	return errors.Join(errs...)
}
