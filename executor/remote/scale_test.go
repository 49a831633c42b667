package remote

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/grpc"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/reapi/reapitest"
	"github.com/forge-build/forge/planner"
)

// A load is a graph of steps, and the least time that it can take.
type load struct {
	graph    *planner.Graph
	critical time.Duration            // along the longest way
	work     time.Duration            // of all steps together
	takes    map[string]time.Duration // by name of a step
}

// newLoad makes a graph of n steps: each stands on one of so many before it, and its time is log-normal between 0.1 s and 60 s.
func newLoad(n, near int, base image.Layer) load {
	r := rand.New(rand.NewPCG(1, 2))
	img := &image.Image{}
	img.Manifest.Layers = append(img.Manifest.Layers, base.Blob)
	img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, base.DiffID)
	steps := []*planner.Step{{Op: &planner.Base{Image: img}, Name: "FROM base"}}
	ends := []time.Duration{0}
	l := load{takes: map[string]time.Duration{}}
	for i := 1; i <= n; i++ {
		took := time.Duration(min(max(math.Exp(r.NormFloat64()*1.2+1), 0.1), 60) * float64(time.Second))
		on := max(0, i-1-r.IntN(min(i, near)))
		steps = append(steps, &planner.Step{
			Index: i, On: steps[on], Name: fmt.Sprint("RUN ", i), Op: run(fmt.Sprint(i), "sleep="+took.String()),
		})
		ends = append(ends, ends[on]+took)
		l.takes[steps[i].Name] = took
		l.work, l.critical = l.work+took, max(l.critical, ends[i])
	}
	l.graph = &planner.Graph{Steps: steps, Result: steps[n]}
	return l
}

// build builds a load with a server in a bubble of virtual time, and returns how long that takes.
func (l load) build(t *testing.T, s *reapitest.Server, m *machine, client *reapi.Client) (time.Duration, *executor.Image) {
	t.Helper()
	w := m.worker(t, client, Only)
	o := buildOptions(w)
	o.Cache = memory(l.takes)
	began := time.Now()
	images, err := executor.Build(t.Context(), []*planner.Graph{l.graph}, o)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	w.Cluster.Keep(t.Context())
	return took, images[0]
}

// buildOptions are those of a build that remembers nothing, by a worker.
func buildOptions(w *Worker) executor.Options {
	return executor.Options{
		Worker: w, Inputs: nothing{}, Cache: memory(nil), Publish: func(context.Context) error { return nil }, Slots: 4096, Away: true,
	}
}

// TestScale holds that 10,000 steps on 1,000 workers take at most 1.2 times what they have to, and so do steps whose longest way is as long as their work, three calls
// a step, and that no layer comes here; and that errors and workers that die change nothing of what is made. What other graphs take holds executor.TestOrder.
func TestScale(t *testing.T) {
	less := 1
	if testing.Short() {
		less = 20
	}
	defer debug.SetGCPercent(debug.SetGCPercent(500)) // memory is not what this is about
	made := map[string]string{}
	for _, test := range []struct {
		name                 string
		steps, near, workers int
		trouble              bool
	}{
		{"long ways", 10_000, 2500, 1000, false},
		{"both bounds alike", 2500, 2500, 50, false},
		{"both bounds alike", 2500, 2500, 50, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			steps, workers := test.steps/less, test.workers/less
			m := newMachine(t)
			l := newLoad(steps, test.near/less, m.layer(t, "base"))
			s := &reapitest.Server{Execute: pretend, Workers: workers}
			if test.trouble {
				addTrouble(s)
			}
			client := s.Pipe(t)
			took, img := l.build(t, s, m, client)
			bound := max(l.critical, l.work/time.Duration(workers))
			t.Logf("%s, trouble %v: %s, at least %s (work %s, critical path %s); %d calls for %d steps, %d executions",
				test.name, test.trouble, took, bound, l.work, l.critical, s.Calls(""), steps, s.Executed())
			if !test.trouble && took > bound*12/10 {
				t.Errorf("it takes %s, more than 1.2 times %s", took, bound)
			}
			if n := s.Calls(""); !test.trouble && n > 3*steps+3*maxChains {
				t.Errorf("%d calls for %d steps", n, steps)
			}
			if n := s.Read(); n != 0 {
				t.Errorf("%d bytes of layers came here", n)
			}
			if m.did != 0 || len(m.warnings) > 0 {
				t.Errorf("%d steps were done here, warnings %q", m.did, m.warnings)
			}
			chain := image.ChainID(img.Layers).String()
			if before := made[test.name]; before != "" && before != chain {
				t.Errorf("%s: trouble has changed the result", test.name)
			}
			made[test.name] = chain
		})
	}
}

// addTrouble has one call of a hundred fail, and one worker of a hundred die amid its work.
func addTrouble(s *reapitest.Server) {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(3, 4))
	one := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(100) == 0
	}
	s.Fault = func(string) error {
		if one() {
			return grpc.Errorf(grpc.Unavailable, "trouble")
		}
		return nil
	}
	s.Cut = func(string) bool { return one() }
	s.Execute = func(ctx context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
		if one() {
			time.Sleep(time.Second)
			return nil, reapitest.Kill()
		}
		return pretend(ctx, t)
	}
}
