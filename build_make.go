package forge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// make does the steps of the targets, what the outputs say, and keeps what came of it for other machines. A layer that another machine
// has left and that is gone since is made here: all is asked again, and what is done already is answered from the cache.
func (h *Home) make(ctx context.Context, b *building) ([]*BuildResult, error) {
	if err := b.planOutputs(); err != nil {
		return nil, err
	}
	for {
		results := make([]*BuildResult, len(b.targets))
		for i, t := range b.targets {
			results[i] = &BuildResult{Name: t.Name, Tags: t.tags, images: t.src.images}
		}
		err := h.execute(ctx, b, results[0])
		if results[0].Stopped != nil {
			return results, err
		}
		executed := err == nil
		if executed {
			err = h.outputAll(ctx, b, results)
		}
		if lost, ok := errors.AsType[*remote.LostError](err); ok && ctx.Err() == nil {
			b.first().src.images.forget(lost)
			continue
		}
		if !executed {
			return nil, err
		}
		if err == nil {
			h.saveFar(ctx, b, results)
			if cluster := results[0].images.cluster; cluster != nil {
				cluster.Keep(ctx)
			}
		}
		return results, err
	}
}

// planOutputs numbers what becomes of the results behind the steps.
func (b *building) planOutputs() (err error) {
	before := len(b.first().graphs[0].Steps)
	for _, t := range b.targets {
		if t.outputs, err = t.outputSteps(t.tags, before); err != nil {
			return b.named(t, err)
		}
		before += len(t.outputs)
		for _, s := range t.outputs {
			if b.several() {
				s.For = []string{t.Name}
			}
		}
	}
	return nil
}

// execute does the steps of all targets and platforms, side by side. If they stop where somebody is to look around, r says where.
func (h *Home) execute(ctx context.Context, b *building, r *BuildResult) (err error) {
	t, g := b.first(), b.first().graphs[0]
	workers, err := h.workers(b)
	if err != nil {
		return err
	}
	defer func() {
		if r.Stopped == nil {
			err = errors.Join(err, closeWorkers(workers))
		}
	}()
	if keeper := h.mountKeeper(ctx, t.BuildOptions, t.src.Source); keeper != nil {
		for _, w := range workers {
			w.Containers.Caches = keeper
		}
	}
	t.src.images.reportFor(g)
	does, err := h.clusterWorkers(b, workers)
	if err != nil {
		return err
	}
	options := h.executorOptions(t.BuildOptions, workers[0].Inputs, t.src.images, does)
	if options.Inputs, err = h.clusterInputs(b, workers[0]); err != nil {
		return err
	}
	if b.several() {
		options.NoCache = false // it is in the plan
	}
	if t.At != "" {
		r.Stopped, err = h.stopAt(ctx, t.BuildOptions, g, workers[0], t.src.images)
		return err
	}
	var graphs []*planner.Graph
	for _, t := range b.targets {
		graphs = append(graphs, t.graphs...)
		for _, s := range t.outputs {
			t.Events.Send(event.Event{Kind: event.Planned, Step: s.Step})
		}
	}
	results, err := executor.Build(ctx, graphs, options)
	if err != nil {
		r.Stopped = t.stopped(g, workers[0], err)
		return b.ofTargets(err)
	}
	for _, t := range b.targets {
		t.results, results = results[:len(t.graphs)], results[len(t.graphs):]
		if err := h.complete(ctx, t); err != nil {
			return b.named(t, err)
		}
	}
	t.src.images.reportUnneeded()
	return nil
}

// ofTargets says which targets a step that failed belongs to.
func (b *building) ofTargets(err error) error {
	failure, ok := errors.AsType[*executor.StepError](err)
	if !ok || len(failure.Step.For) == 0 {
		return err
	}
	return fmt.Errorf("target %s: %w", strings.Join(failure.Step.For, ", "), err)
}

// complete brings the layers of a target's images that are elsewhere, and squashes them.
func (h *Home) complete(ctx context.Context, t *making) (err error) {
	o := t.BuildOptions
	if o.Epoch == nil {
		if o.Epoch, err = commonEpoch(t.graphs); err != nil {
			return err
		}
	}
	for i, result := range t.results {
		if !o.pushedOnly() || o.Squash { // what is kept is whole
			if err := t.src.images.FetchLayers(ctx, result.Layers); err != nil {
				return err
			}
		}
		if o.Squash {
			if err := h.squash(ctx, o, t.graphs[i], result); err != nil {
				return err
			}
		}
		if n := len(result.Layers); n > image.MaxDockerLayers {
			o.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf(
				"the image has %d layers, and docker loads or pulls at most %d; --squash makes one of those that this build adds", n, image.MaxDockerLayers)})
		}
	}
	return nil
}

// outputsAtOnce is how many targets' results are written or pushed at once.
const outputsAtOnce = 4

// outputAll does with the results of each target what was asked for.
func (h *Home) outputAll(ctx context.Context, b *building, results []*BuildResult) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(outputsAtOnce)
	for i, t := range b.targets {
		g.Go(func() (err error) {
			r := results[i]
			r.Reused, r.Done = t.counts()
			if r.metadata, err = metadataOf(t); err == nil {
				err = h.output(ctx, t, r)
			}
			return b.named(t, err)
		})
	}
	return g.Wait()
}

// counts are how many steps of the target were answered from the cache, and how many were done.
func (t *making) counts() (reused, done int) {
	if t.Name == "" {
		return t.results[0].Reused, t.results[0].Done
	}
	for _, s := range t.graphs[0].Steps {
		_, base := s.Op.(*planner.Base)
		switch {
		case base || !slices.Contains(s.For, t.Name):
		case t.results[0].Answered[s.Index]:
			reused++
		default:
			done++
		}
	}
	return reused, done
}
