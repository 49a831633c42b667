package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/snapshottest"
	"github.com/forge-build/forge/source"
)

// A home is a state directory with a worker, and a base image of busybox.
type home struct {
	t      testing.TB
	dir    string
	kit    *snapshottest.Kit
	layout *image.Layout
	worker *Worker
	cache  *cache.Steps
	epoch  *time.Time
	base   *image.Image

	mu  sync.Mutex // guards log
	log []string   // what steps printed
}

func newHome(t testing.TB) *home {
	t.Helper()
	k := snapshottest.Open(t, t.TempDir(), snapshot.Kind(os.Getenv("FORGE_SNAPSHOTTER")))
	layers := &source.Layers{Snapshots: k.Store}
	h := &home{t: t, dir: k.Root, kit: k, layout: k.Layout, cache: must1(cache.OpenSteps(filepath.Join(k.Root, "cache"), k.Layout))(t)}
	h.worker = &Worker{
		Layout:     h.layout,
		Inputs:     &source.Resolver{Layers: layers, Downloads: source.Downloads{Layout: h.layout}},
		Containers: &container.Factory{Snapshots: k.Store, Staging: k.Stage, CacheDir: filepath.Join(h.dir, "mounts")},
	}
	t.Cleanup(func() {
		if err := errors.Join(h.worker.Close(), layers.Close()); err != nil {
			t.Error(err)
		}
	})
	return h
}

// newRunHome is a home in which commands can run.
func newRunHome(t testing.TB) *home {
	t.Helper()
	h := newHome(t)
	layer := snapshottest.Busybox(t, h.kit)
	h.base = &image.Image{}
	h.base.Manifest.Layers = append(h.base.Manifest.Layers, layer.Blob)
	h.base.Config.RootFS.DiffIDs = append(h.base.Config.RootFS.DiffIDs, layer.DiffID)
	return h
}

// must1 makes an error the end of the test.
func must1[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// oneID reports whether this is a user namespace with no id but root's, where everything is root's.
func oneID(t testing.TB) bool {
	t.Helper()
	text := must1(os.ReadFile("/proc/self/uid_map"))(t)
	fields := strings.Fields(string(text))
	return len(fields) == 3 && fields[2] == "1"
}

func (h *home) options() executor.Options {
	return executor.Options{
		Worker: h.worker, Inputs: h.worker.Inputs, Cache: h.cache, Publish: h.layout.Publish,
		Events: func(e event.Event) {
			if e.Kind == event.Log {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.log = append(h.log, e.Text)
			}
		},
	}
}

// sh is a RUN of a shell command.
func sh(script string, mounts ...planner.Mount) *planner.Run {
	return &planner.Run{
		Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/",
		Network: "none", Platform: "linux/amd64", Mounts: mounts,
	}
}

// A graphMaker makes graphs of operations.
type graphMaker struct{ steps []*planner.Step }

func (g *graphMaker) add(op planner.Op, on *planner.Step, reads ...*planner.Step) *planner.Step {
	s := &planner.Step{
		Index: len(g.steps), Op: op, On: on, Reads: reads, Name: fmt.Sprintf("%T", op),
		Span: parser.Span{File: "Dockerfile", Start: len(g.steps) + 1},
	}
	g.steps = append(g.steps, s)
	return s
}

func (g *graphMaker) run(name string, on *planner.Step, reads ...*planner.Step) *planner.Step {
	return g.add(&planner.Run{Args: []string{name}}, on, reads...)
}

func (g *graphMaker) graph(result *planner.Step) *planner.Graph {
	return &planner.Graph{Steps: g.steps, Result: result}
}

// on begins a graph with the base.
func (h *home) on() (*graphMaker, *planner.Step) {
	g := &graphMaker{}
	return g, g.add(&planner.Base{Image: h.base}, nil)
}

// do does operations one on another on the base and returns what they printed.
func (h *home) do(ops ...planner.Op) (*executor.Image, string, error) {
	h.t.Helper()
	g, on := h.on()
	for _, op := range ops {
		on = g.add(op, on)
	}
	return h.build(g.graph(on))
}

func (h *home) build(g *planner.Graph) (*executor.Image, string, error) {
	h.t.Helper()
	h.log = nil
	for _, s := range g.Steps {
		s.Epoch = h.epoch
	}
	g.Epoch = h.epoch
	r, err := buildOne(h.t.Context(), g, h.options())
	return r, strings.Join(h.log, "\n"), err
}

// prints is do for what has to succeed.
func (h *home) prints(ops ...planner.Op) string {
	h.t.Helper()
	_, out, err := h.do(ops...)
	if err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// names are the paths in one layer, sorted.
func (h *home) names(layer image.Layer) string {
	h.t.Helper()
	v := must1(h.worker.Inputs.Layers.Snapshots.View(h.t.Context(), []image.Layer{layer}))(h.t)
	defer v.Close()
	var names []string
	err := filetree.Walk(h.t.Context(), v, ".", func(rel string, _ *snapshot.Entry, _ *filetree.Sum) error {
		if rel != "." {
			names = append(names, rel)
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func last(r *executor.Image) image.Layer { return r.Layers[len(r.Layers)-1] }

// context makes a build context of files.
func (h *home) context(name string, files map[string]string, ignore ...string) {
	h.t.Helper()
	dir := h.t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			h.t.Fatal(err)
		}
	}
	d := must1(source.OpenDir(dir, ignore, filepath.Join(h.t.TempDir(), "index")))(h.t)
	h.t.Cleanup(func() { d.Close() })
	if h.worker.Inputs.Contexts == nil {
		h.worker.Inputs.Contexts = make(map[string]snapshot.Tree)
	}
	h.worker.Inputs.Contexts[name] = d
}

// long is for tests that take more than a moment: go test -short leaves them out.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}

// buildOne builds one graph.
func buildOne(ctx context.Context, g *planner.Graph, o executor.Options) (*executor.Image, error) {
	images, err := executor.Build(ctx, []*planner.Graph{g}, o)
	if err != nil {
		return nil, err
	}
	return images[0], nil
}
