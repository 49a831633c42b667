package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// A Resolver has what operations read of layers that the server has, and this machine has not, resolved by a worker, so that the layers do
// not come here for that. A worker that lies makes a key that answers nothing: whoever does the job reads the files again, and refuses it.
type Resolver struct {
	Worker *Worker
	Here   executor.InputResolver // resolves all else, and what a worker could not
}

// Resolve implements [executor.InputResolver].
func (r Resolver) Resolve(ctx context.Context, op planner.Op, n int, layers []image.Layer) (source.Input, error) {
	away, err := r.Worker.areAway(ctx, layers)
	if err != nil {
		return source.Input{}, err
	}
	if away && r.Worker.Cluster.Down() == nil {
		in, err := r.Worker.resolve(ctx, op, n, layers)
		if _, lost := errors.AsType[*remote.LostError](err); err == nil || lost || ctx.Err() != nil {
			return in, err
		}
	}
	return r.Here.Resolve(ctx, op, n, layers) // which says what is wrong with the files; a job says what is with the server
}

// areAway reports whether one of the layers is not here, and the server has it: it has made it, or somebody has sent it.
func (w *Worker) areAway(ctx context.Context, layers []image.Layer) (bool, error) {
	for _, l := range layers {
		if here, err := w.Layers.HaveLayer(ctx, l); err != nil {
			return false, err
		} else if !here && (w.Cluster.Made(l) || l.Blob.Digest != l.DiffID && w.Cluster.size(ctx, l) > 0) {
			return true, nil
		}
	}
	return false, nil
}

// resolve has a worker say what the n'th input of an operation comes to.
func (w *Worker) resolve(ctx context.Context, op planner.Op, n int, layers []image.Layer) (in source.Input, err error) {
	if err := w.able(ctx); err != nil {
		return in, err
	}
	a, err := w.action(ctx, executor.Resolving(op, n, layers))
	if err != nil {
		return in, err
	}
	ctx = reapi.WithLabel(ctx, reapi.Label{Mnemonic: "RESOLVE", Action: a.digest})
	result, err := w.Cluster.result(ctx, a)
	if err != nil {
		return in, err
	}
	if result == nil || result.ExitCode != 0 {
		if err := w.upload(ctx, a, func(int) {}); err != nil {
			return in, err
		}
		x, err := w.execute(ctx, &executor.Job{}, reapi.Execution{Action: a.digest}, io.Discard)
		if err != nil {
			return in, err
		}
		result = x.response.Result
	}
	out, err := w.readOutcome(ctx, result)
	if err != nil {
		return in, err
	}
	if out.Input == nil || out.Input.Layer != nil {
		return in, fmt.Errorf("%w: it does not say what it has read: %s", executor.ErrWorker, shown(out.Error))
	}
	w.Cluster.mu.Lock()
	defer w.Cluster.mu.Unlock()
	a.chain.follow(a)
	return *out.Input, nil
}
