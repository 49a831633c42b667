package executor

import (
	"context"

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
	job := Job{Op: p.Step.Around, Epoch: o.Epoch}
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
