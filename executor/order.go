package executor

import (
	"context"
	"sync"
	"time"

	"github.com/forge-build/forge/planner"
)

// An order says which steps of a graph go first.
type order struct {
	graph  *planner.Graph
	behind []int32 // by Step.Index: see behind

	once sync.Once
	ways []float64 // by Step.Index, valid after once: see urgency
}

// behind is how many steps stand on each other on top of each step, at most, by Step.Index.
func behind(g *planner.Graph) []int32 {
	list := make([]int32, len(g.Steps))
	for i := len(g.Steps) - 1; i >= 0; i-- { // a step comes after what it needs
		if on := g.Steps[i].On; on != nil {
			list[on.Index] = max(list[on.Index], list[i]+1)
		}
	}
	return list
}

// urgency is how long the longest way takes from the beginning of a step to the end of the build, as a part of the longest way of all. Where
// other machines do steps and there are more of them than machines, the longest way goes first, so that not all wait for it in the end.
// Steps of this machine are in no order: it has more places than work.
func (b *build) urgency(ctx context.Context, s *planner.Step) float64 {
	if !b.options.Away {
		return 0
	}
	b.order.once.Do(func() { b.order.ways = ways(b.order.graph, b.took(ctx)) })
	return b.order.ways[s.Index]
}

// ways are the longest ways from the beginning of each step to the end, as parts of the longest of all.
func ways(g *planner.Graph, took func(*planner.Step) float64) []float64 {
	list := make([]float64, len(g.Steps))
	longest := 0.0
	for i := len(g.Steps) - 1; i >= 0; i-- {
		s := g.Steps[i]
		list[i] += took(s)
		longest = max(longest, list[i])
		for _, need := range needs(s) {
			list[need.Index] = max(list[need.Index], list[i])
		}
	}
	for i := range list {
		if longest > 0 {
			list[i] /= longest
		}
	}
	return list
}

// took says how long steps take: what a step of the name has taken the last time. Of one that nobody knows, it is what those that are known take
// in the mean, so that ways of which nothing is known are as long as they have steps.
func (b *build) took(ctx context.Context) func(*planner.Step) float64 {
	known := map[string]time.Duration{}
	sum, n := time.Duration(0), time.Duration(0)
	for _, s := range b.order.graph.Steps {
		if _, asked := known[s.Name]; asked {
			continue
		}
		known[s.Name] = 0
		e, ok, err := b.options.Cache.Nearest(ctx, s.Name, nil)
		if _, base := s.Op.(*planner.Base); base || !ok || err != nil || e.Duration <= 0 {
			continue
		}
		known[s.Name] = e.Duration
		sum, n = sum+e.Duration, n+1
	}
	mean := time.Second
	if n > 0 {
		mean = sum / n
	}
	return func(s *planner.Step) float64 {
		if _, base := s.Op.(*planner.Base); base {
			return 0
		}
		if d := known[s.Name]; d > 0 {
			return d.Seconds()
		}
		return mean.Seconds()
	}
}
