package executor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// answer is the step's layer, remembered or made.
func (b *build) answer(ctx context.Context, s *planner.Step, job Job) (e cache.Entry, answered bool, err error) {
	h, err := job.Key()
	if err != nil {
		return e, false, &StepError{Step: s, Err: err}
	}
	key := h.Key()
	again := b.options.NoCache || s.NoCache
	if since := b.options.Since; !again || !since.IsZero() {
		e, ok, err := b.lookup(ctx, key)
		if err != nil {
			return e, false, &StepError{Step: s, Err: err}
		}
		ok = ok && (!again || e.Created.After(since))
		if ok && rand.Float64() < b.options.Audit {
			return b.audit(ctx, s, job, h, e)
		}
		if ok {
			b.answered(s, key, e)
			return e, true, nil
		}
	}
	f, first := b.flights.Of(key)
	if !first {
		if e, err = f.Wait(ctx); err == nil {
			b.answered(s, key, e)
		}
		return e, true, err
	}
	if !b.options.Away {
		if err := b.prepare(ctx, s, job); err != nil {
			return e, false, err
		}
	}
	job.Hints = b.hints(ctx, s, h)
	job.Hints.Again = again
	b.nodes[s.Index].began = time.Now()
	started := event.Event{Kind: event.Started, Detail: event.Detail{Key: key.String()}}
	if again {
		started.Why = &event.Why{Reason: event.Asked}
	}
	b.events.send(s, started)
	e, err = b.do(ctx, s, job, h)
	if err != nil {
		return e, false, err
	}
	e.Name, e.Fields, e.Base = s.Name, h.Fields(), baseOf(s)
	b.publisher.add(key, e)
	landed := e
	landed.Fields = nil // which nobody who waits needs
	f.Land(landed)
	return e, e.Place != "", nil
}

// hints are those of a job of s.
func (b *build) hints(ctx context.Context, s *planner.Step, h *cache.Hash) Hints {
	hints := Hints{Step: b.events.steps[s.Index]}
	hints.Behind = int(b.order.behind[s.Index])
	hints.Urgency = func() float64 { return b.urgency(ctx, s) }
	hints.Took = func() time.Duration {
		before, ok, err := b.options.Cache.Nearest(ctx, s.Name, h.Fields())
		if !ok || err != nil {
			return 0
		}
		return before.Duration
	}
	return hints
}

// prepare brings the images that a step which has to be done begins with or reads.
func (b *build) prepare(ctx context.Context, s *planner.Step, job Job) error {
	if c, ok := job.Op.(*planner.Copy); !ok || !c.Independent() {
		if err := b.fetch(ctx, s.On); err != nil {
			return err
		}
	}
	for _, r := range s.Reads {
		if err := b.fetch(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// lookup asks the cache.
func (b *build) lookup(ctx context.Context, key cache.Key) (cache.Entry, bool, error) {
	e, ok, err := b.options.Cache.Get(ctx, key)
	if err != nil {
		if ctx.Err() != nil {
			return e, false, ctx.Err()
		}
		b.cacheFails(err)
	}
	return e, ok, nil
}

// cacheFails warns, once, of a cache that cannot be asked. The build goes on without it.
func (b *build) cacheFails(err error) {
	b.unasked.Do(func() { b.events.warn(fmt.Errorf("cache: %w; steps that it would answer are done again", err)) })
}

// do has the worker do the job, and says why that has to be: a command may take its time, so before it runs; what a copy has changed is known only
// when it is done.
func (b *build) do(ctx context.Context, s *planner.Step, job Job, h *cache.Hash) (cache.Entry, error) {
	why := (*explanation)(nil)
	_, copies := job.Op.(*planner.Copy)
	if b.options.Explain {
		if why = b.explain(ctx, s, h); !copies {
			why.say(b, s)
		}
	}
	start := time.Now()
	log := &lineWriter{emit: func(kind event.Kind, line string) { b.events.send(s, event.Event{Kind: kind, Text: line}) }}
	result, err := b.options.Worker.Do(ctx, job, log)
	tail := log.close()
	if err != nil {
		failure := &StepError{Step: s, Err: err, Tail: tail, Job: &job, usage: result.Usage}
		if exit := (*ExitError)(nil); errors.As(err, &exit) {
			failure.ExitCode = exit.Code
		}
		if ctx.Err() == nil {
			failure.why = &b.explain(ctx, s, h).Why
		}
		return cache.Entry{}, failure
	}
	now := time.Now()
	if b.options.Explain && copies {
		why.files(ctx, b, result.Layer)
		why.say(b, s)
	}
	if why != nil && why.before.Layer.DiffID == result.Layer.DiffID {
		b.events.send(s, event.Event{Kind: event.Note, Text: "its layer came out the same as before"})
	}
	e := cache.Entry{Layer: result.Layer, Created: now.UTC().Truncate(time.Microsecond), Duration: now.Sub(start)}
	b.sayPlace(s, result)
	ended := event.Event{Kind: event.Done, Duration: e.Duration, Bytes: result.Layer.Blob.Size, Detail: event.Detail{Usage: result.Usage}}
	if result.Known {
		ended.Kind, ended.Key, e.Place = event.Cached, h.Key().String(), result.Place
		ended.Detail.Place, ended.Usage = result.Place, nil
		if e.Duration = result.Took; !result.Made.IsZero() {
			e.Created = result.Made.Truncate(time.Microsecond)
		}
		ended.Duration = e.Duration
	}
	b.events.send(s, ended)
	return e, nil
}

// result gathers what the steps made.
func (b *build) result(g *planner.Graph) *Image {
	r := &Image{Config: g.Config, Created: make([]time.Time, len(g.Steps)), Inputs: make([][]source.Input, len(g.Steps)), Answered: make([]bool, len(g.Steps))}
	for _, s := range g.Steps {
		n := &b.nodes[s.Index]
		if _, ok := s.Op.(*planner.Base); ok {
			continue
		}
		r.Created[s.Index], r.Inputs[s.Index], r.Answered[s.Index] = n.created, n.inputs, n.answered
		if n.answered {
			r.Reused++
		} else {
			r.Done++
		}
	}
	if g.Result != nil {
		r.Layers = slices.Clip(b.nodes[g.Result.Index].layers)
	}
	finish(&r.Config, g.Result, r.Created, g.Epoch)
	return r
}
