package remote

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/reapi/reapitest"
	"github.com/forge-build/forge/planner"
)

// compressed is a layer as a registry has it, whose tar is called content.
func compressed(content string) image.Layer {
	l := tarWith(content)
	l.Blob.Digest, l.Blob.Size = digest.FromString("compressed "+content), 7
	return l
}

// fetcher counts the layers that come to a machine.
func fetcher(t *testing.T, m *machine, content string, n *atomic.Int32) func(context.Context, []image.Layer) error {
	return func(ctx context.Context, layers []image.Layer) error {
		for _, l := range layers {
			if here, _ := m.HaveLayer(ctx, l); !here {
				n.Add(1)
				m.layer(t, content)
			}
		}
		return nil
	}
}

// TestBaseStays holds that a machine that has nothing of a base image, which another has sent to the server, looks actions up and has new ones
// executed without fetching it; and that it comes when the server has lost it.
func TestBaseStays(t *testing.T) {
	t.Parallel()
	for _, readOnly := range []bool{false, true} {
		s := &reapitest.Server{Execute: pretend, ReadOnly: readOnly}
		client := dial(t, s)
		first := newMachine(t)
		first.layer(t, "base")
		base := compressed("base")
		var log strings.Builder
		if _, err := first.worker(t, client, Only).Do(t.Context(), executor.Job{On: []image.Layer{base}, Op: run("x")}, &log); err != nil {
			t.Fatal(err)
		}
		var fetched atomic.Int32
		fresh := newMachine(t)
		w := fresh.worker(t, dialAgain(t, client), Only)
		w.Fetch = fetcher(t, fresh, "base", &fetched)
		r, err := w.Do(t.Context(), executor.Job{On: []image.Layer{base}, Op: run("x")}, &log)
		if err != nil || !r.Known {
			t.Errorf("read only %v: what was done: %+v, %v", readOnly, r, err)
		}
		if r, err = w.Do(t.Context(), executor.Job{On: []image.Layer{base}, Op: run("y")}, &log); err != nil || r.Known {
			t.Errorf("read only %v: what was not done: %+v, %v", readOnly, r, err)
		}
		if want := map[bool]int32{true: 1}[readOnly]; fetched.Load() != want { // a server that takes no names leaves no other way
			t.Errorf("read only %v: the base came %d times", readOnly, fetched.Load())
		}
		if readOnly {
			continue
		}
		if away, why, err := w.choose(t.Context(), &executor.Job{On: []image.Layer{base}, Op: &planner.Mkdir{Path: "/x"}}); !away || err != nil {
			t.Errorf("WORKDIR on it is done here: %s, %v", why, err)
		}
		lost := reapi.DigestOf([]byte("base"))
		s.Evict(func(d reapi.Digest) bool { return d == lost })
		w = fresh.worker(t, dialAgain(t, client), Only)
		w.Fetch = fetcher(t, fresh, "base", &fetched)
		if _, err = w.Do(t.Context(), executor.Job{On: []image.Layer{base}, Op: run("z")}, &log); err != nil || fetched.Load() != 1 || fresh.did > 0 {
			t.Errorf("lost: %v, the base came %d times, done here %d", err, fetched.Load(), fresh.did)
		}
	}
}

// dialAgain is another client of the same server.
func dialAgain(t *testing.T, c *reapi.Client) *reapi.Client {
	t.Helper()
	again, err := reapi.Dial(c.String(), reapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return again
}

// TestRounds holds that a machine that has nothing waits twice for a server that is 30 ms away and has done all, whether steps stand on each
// other or not. It runs in virtual time.
func TestRounds(t *testing.T) {
	t.Parallel()
	const rtt, rounds, stages, deep = 30 * time.Millisecond, 2, 50, 50
	for _, test := range []struct {
		name  string
		graph func(base image.Layer) *planner.Graph
	}{
		{"side by side", func(base image.Layer) *planner.Graph { return stepsOn(base, stages, func(int) int { return 0 }) }},
		{"on each other", func(base image.Layer) *planner.Graph { return stepsOn(base, deep, func(i int) int { return i - 1 }) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, base := newMachine(t), compressed("base")
				m.layer(t, "base")
				var far atomic.Bool
				s := &reapitest.Server{Execute: pretend, Fault: func(string) error {
					if far.Load() {
						time.Sleep(rtt)
					}
					return nil
				}}
				client := s.Pipe(t)
				load{graph: test.graph(base)}.build(t, s, m, client)
				far.Store(true)
				done := s.Executed()
				fresh := newMachine(t)
				w := fresh.worker(t, reapi.New(s.Conn(t), "grpc://pipe", ""), Only)
				w.Fetch = func(context.Context, []image.Layer) error { t.Error("the base is fetched"); return io.EOF }
				began := time.Now()
				images, err := executor.Build(t.Context(), []*planner.Graph{test.graph(base)}, buildOptions(w))
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > rounds*rtt || s.Executed() != done || images[0].Done != 0 {
					t.Errorf("%s, want %d times %s; executed %d more, %d not known", took, rounds, rtt, s.Executed()-done, images[0].Done)
				}
			})
		})
	}
}

// stepsOn is a graph of n steps, each on another one; 0 is the base.
func stepsOn(base image.Layer, n int, on func(i int) int) *planner.Graph {
	img := &image.Image{}
	img.Manifest.Layers = append(img.Manifest.Layers, base.Blob)
	img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, base.DiffID)
	steps := []*planner.Step{{Op: &planner.Base{Image: img}, Name: "FROM base"}}
	for i := 1; i <= n; i++ {
		steps = append(steps, &planner.Step{Index: i, On: steps[on(i)], Name: fmt.Sprint("RUN ", i), Op: run(fmt.Sprint(i))})
	}
	return &planner.Graph{Steps: steps, Result: steps[n]}
}
