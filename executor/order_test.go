package executor

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/internal/turn"
	"github.com/forge-build/forge/planner"
)

// A crew is machines that only seem to work, for as long as the step of a name takes. Those that are the most urgent go first.
type crew struct {
	places *turn.Queue
	takes  map[string]time.Duration
}

func (c *crew) Do(ctx context.Context, job Job, _ io.Writer) (Result, error) {
	if err := c.places.Wait(ctx, job.Hints.Urgency); err != nil {
		return Result{}, err
	}
	defer c.places.Leave()
	time.Sleep(c.takes[command0(job.Op)])
	return Result{Layer: fakeLayer(command0(job.Op))}, nil
}

// durations is a cache that remembers how long steps have taken, and nothing else.
type durations map[string]time.Duration

func (d durations) Get(context.Context, cache.Key) (cache.Entry, bool, error) {
	return cache.Entry{}, false, nil
}
func (d durations) Put(context.Context, cache.Key, cache.Entry) error { return nil }
func (d durations) Absent(cache.Key, string) []string                 { return nil }
func (d durations) Nearest(_ context.Context, name string, _ []cache.Field) (cache.Entry, bool, error) {
	took, ok := d[name]
	return cache.Entry{Name: name, Duration: took}, ok, nil
}

// A shape says which steps the i'th of n stands on and reads: numbers from 0, which is none, to i-1.
type shape func(r *rand.Rand, i, n int) (on int, reads []int)

// shaped is a graph of n steps, how long each takes, and the least time that so many machines need for it.
func shaped(seed uint64, n, machines int, of shape) (g *planner.Graph, takes map[string]time.Duration, least time.Duration) {
	r := rand.New(rand.NewPCG(1, seed))
	m, ends := &graphMaker{}, make([]time.Duration, n+1)
	takes = map[string]time.Duration{}
	var work, longest time.Duration
	for i := 1; i <= n; i++ {
		on, numbers := of(r, i, n)
		var below *planner.Step
		begins := ends[on]
		if on > 0 {
			below = m.steps[on-1]
		}
		var reads []*planner.Step
		for _, k := range numbers {
			reads, begins = append(reads, m.steps[k-1]), max(begins, ends[k])
		}
		name := fmt.Sprint(i)
		takes[name] = time.Duration(min(max(math.Exp(r.NormFloat64()*1.2+1), 0.1), 60) * float64(time.Second))
		m.add(&planner.Run{Args: []string{name}}, below, reads...)
		ends[i] = begins + takes[name]
		work, longest = work+takes[name], max(longest, ends[i])
	}
	return m.graph(m.steps[n-1]), takes, max(longest, work/time.Duration(machines))
}

// tree has each step stand on one of so many before it.
func tree(near int) shape {
	return func(r *rand.Rand, i, _ int) (int, []int) { return max(0, i-1-r.IntN(min(i, near))), nil }
}

// beside has steps that do not need each other.
func beside(*rand.Rand, int, int) (int, []int) { return 0, nil }

// stages are so many of as many steps each; the last step reads all of them.
func stages(many int) shape {
	return func(_ *rand.Rand, i, n int) (on int, reads []int) {
		if i == n {
			for k := n - many; k < n; k++ {
				reads = append(reads, k)
			}
			return 0, reads
		}
		return max(0, i-many), nil
	}
}

// net has each step stand on one before it or on none, and read up to three others.
func net(near int) shape {
	return func(r *rand.Rand, i, _ int) (on int, reads []int) {
		one := func() int { return i - 1 - r.IntN(min(i, near)) }
		for range r.IntN(4) {
			if k := one(); k > 0 {
				reads = append(reads, k)
			}
		}
		if r.IntN(8) == 0 {
			return 0, reads
		}
		return one(), reads
	}
}

// TestOrder holds that a build on many machines takes at most 1.2 times what it has to, whatever its graph looks like, if it is remembered how long its steps take. If nobody
// knows that, it is the same where ways have lengths of their own; steps of which one is as good as another can take twice as long, as with any order that does not know
// which of them is the longest (Graham, 1966). It runs in virtual time.
func TestOrder(t *testing.T) {
	t.Parallel()
	less := 1
	if testing.Short() {
		less = 20
	}
	for _, test := range []struct {
		name            string
		steps, machines int
		of              shape
		blind           float64 // at most, if nothing is remembered
	}{
		{"side by side", 10_000, 1000, beside, 2},
		{"wide", 10_000, 1000, tree(5000 / less), 1.2},
		{"deep", 10_000, 1000, tree(100 / less), 1.2},
		{"both bounds alike", 5000, 100, tree(5000 / less), 2},
		{"stages", 10_000, 1000, stages(1000 / less), 1.2},
		{"net", 10_000, 1000, net(5000 / less), 1.2},
		{"few machines", 2000, 20, net(500 / less), 1.2},
	} {
		for what, limit := range map[string]float64{"remembered": 1.2, "not remembered": test.blind} {
			t.Run(test.name+", "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g, takes, least := shaped(1, test.steps/less, test.machines/less, test.of)
					remembers := durations{}
					for name, took := range takes {
						if what == "remembered" {
							remembers["RUN "+name] = took
						}
					}
					began := time.Now()
					_, err := Build(t.Context(), []*planner.Graph{g}, Options{
						Worker: &crew{turn.New(test.machines / less), takes}, Inputs: &fakeWorker{}, Cache: remembers, Slots: 4096, Away: true,
						Publish: func(context.Context) error { return nil },
					})
					ratio := float64(time.Since(began)) / float64(least)
					t.Logf("%.2f times %s", ratio, least)
					if err != nil || ratio > limit {
						t.Errorf("it takes %.2f times %s, %v", ratio, least, err)
					}
				})
			})
		}
	}
}
