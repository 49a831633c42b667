package executor

import (
	"context"
	"slices"

	"github.com/forge-build/forge/planner"
)

// A Place is before or after a step.
type Place struct {
	Step  *planner.Step
	After bool
}

// needed are the steps that have been done at the place, in the graph's order.
func (p Place) needed(g *planner.Graph) []*planner.Step {
	need := make([]bool, len(g.Steps))
	need[p.Step.Index] = true
	for i := p.Step.Index; i >= 0; i-- { // a step comes after what it needs
		if !need[i] {
			continue
		}
		if on := g.Steps[i].On; on != nil {
			need[on.Index] = true
		}
		for _, r := range g.Steps[i].Reads {
			need[r.Index] = true
		}
	}
	need[p.Step.Index] = p.After
	var list []*planner.Step
	for i, s := range g.Steps {
		if need[i] {
			list = append(list, s)
		}
	}
	return list
}

// Reach does what has to be done to get to a place of a graph, as [Build] does it and no more. It returns the job of a RUN in that
// place: of the step, if that is one, else one without a command and mounts.
func Reach(ctx context.Context, g *planner.Graph, p Place, o Options) (Job, error) {
	b, err := run(ctx, g, p.needed(g), o)
	if err != nil {
		return Job{}, err
	}
	job := Job{Op: p.Step.Around, Epoch: p.Step.Epoch}
	if p.Step.Around == p.Step.Op {
		if job, err = b.job(ctx, p.Step); err != nil {
			return Job{}, &StepError{Step: p.Step, Err: err}
		}
	}
	on := p.Step
	if !p.After {
		on = on.On
	}
	if on != nil {
		job.On = nonEmpty(b.nodes[on.Index].layers)
	}
	return job, nil
}

// Probe reports which steps of a graph the cache could answer, by Step.Index. It does nothing, so that a step which stands
// on or reads one that would have to be done counts as not known. A Base is known.
func Probe(ctx context.Context, g *planner.Graph, o Options) ([]bool, error) {
	b := &build{
		options: o, resolving: make(chan struct{}, resolvers), nodes: make([]node, len(g.Steps)),
		events: &reporter{steps: Steps(g), sink: o.Events},
	}
	for i := range b.nodes {
		b.nodes[i].known = make(chan struct{})
		close(b.nodes[i].known)
	}
	known := make([]bool, len(g.Steps))
	unknown := func(s *planner.Step) bool { return s != nil && !known[s.Index] }
	for _, s := range g.Steps {
		if base, ok := s.Op.(*planner.Base); ok {
			known[s.Index], b.nodes[s.Index].layers = true, base.Image.Layers()
			continue
		}
		if o.NoCache || s.NoCache || unknown(s.On) || slices.ContainsFunc(s.Reads, unknown) {
			continue
		}
		job, err := b.job(ctx, s)
		if err != nil {
			return nil, &StepError{Step: s, Err: err}
		}
		h, err := job.Key()
		if err != nil {
			return nil, &StepError{Step: s, Err: err}
		}
		e, ok, err := b.lookup(ctx, h.Key())
		if err != nil {
			return nil, &StepError{Step: s, Err: err}
		}
		known[s.Index] = ok
		b.nodes[s.Index].layers = b.stackOf(s, e.Layer)
	}
	return known, nil
}
