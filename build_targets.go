package forge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/source"
)

// A Target is one of the images that a build makes.
type Target struct {
	Name string // for people, and for the From of others; "" if the build makes one image only
	BuildOptions
	From map[string]string // named contexts that are what other targets make: the Target.Name of each
}

// A building is one build: its targets, and what they share.
type building struct {
	home    *Home
	began   time.Time
	targets []*making
	shared  *source.Shared // directories; nil if there is one target
	settings
}

// A making is a target on its way to an image.
type making struct {
	Target
	tags    []image.Reference
	src     *sources
	graphs  []*planner.Graph  // one a platform
	outputs []outputStep      // what becomes of the result
	results []*executor.Image // one a graph
}

// first is the target whose word holds for what the build has once: events, registries, isolation.
func (b *building) first() *making { return b.targets[0] }

// several reports whether the targets have names: there may be several.
func (b *building) several() bool { return b.first().Name != "" }

// newBuilding is a build that has opened nothing yet.
func (h *Home) newBuilding(targets []Target) *building {
	b := &building{home: h, began: time.Now()}
	for i := range targets {
		b.targets = append(b.targets, &making{Target: targets[i]})
	}
	if b.several() {
		b.shared = &source.Shared{}
	}
	return b
}

// BuildAll makes the images of several targets as one build: what they have in common is done once, and the rest side by side. The first
// failure ends all of it. Nothing is tagged or pushed before every step of every target has succeeded. Of Events, Explain, Since,
// Isolation, Audit, Mounts and what asks registries, the word of the first target holds for all; BreakOptions need a single target.
func (h *Home) BuildAll(ctx context.Context, targets []Target) (results []*BuildResult, err error) {
	if err := checkTargets(targets); err != nil {
		return nil, err
	}
	b := h.newBuilding(targets)
	id, end := h.report(b, &results, &err)
	defer end()
	limit, err := maxSize()
	if err != nil {
		return nil, err
	}
	defer func() { h.keepBelow(ctx, limit, b.first().Events) }()
	for _, t := range b.targets {
		if err := t.prepare(ctx); err != nil {
			return nil, b.named(t, err)
		}
	}
	var open closers.Stack
	defer func() { err = errors.Join(err, open.Close()) }()
	if err := b.open(ctx, &open); err != nil {
		return nil, err
	}
	if err := b.plan(ctx); err != nil {
		return nil, err
	}
	results, err = h.make(ctx, b)
	if len(results) > 0 && results[0].Stopped != nil {
		results[0].Stopped.open, open = append(open, results[0].Stopped.open...), nil
		return results, err
	}
	if err != nil {
		return results, err
	}
	var errs []error
	for i, r := range results {
		t := b.targets[i]
		for _, img := range r.Images {
			r.Size += h.imageSize(img)
		}
		r.Duration, r.metadata.build = time.Since(b.began), id
		errs = append(errs, b.named(t, errors.Join(t.writeID(ctx, r), t.src.writePins(t.Lock))))
	}
	return results, errors.Join(append(errs, b.writeMetadata(ctx, results))...)
}

// checkTargets refuses targets that cannot be built together.
func checkTargets(targets []Target) error {
	if len(targets) == 0 {
		return errors.New("there is nothing to build")
	}
	if len(targets) == 1 && targets[0].Name == "" {
		return nil
	}
	names := map[string]*Target{}
	for i := range targets {
		t := &targets[i]
		switch {
		case names[t.Name] != nil:
			return fmt.Errorf("two targets are called %q", t.Name)
		case t.stops():
			return fmt.Errorf("target %s: a shell stops the build of one image: build this target alone", t.Name)
		case t.Lock != LockUsed:
			return fmt.Errorf("target %s: %s is written by the build of one image: build this target alone", t.Name, source.PinsFile)
		}
		names[t.Name] = t
	}
	const open, done = 1, 2
	state := map[string]int{}
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case done:
			return nil
		case open:
			return fmt.Errorf("target %s: is made from itself", name)
		}
		state[name] = open
		for context, from := range names[name].From {
			if names[from] == nil {
				return fmt.Errorf("target %s: context %s: there is no target %q", name, context, from)
			}
			if err := visit(from); err != nil {
				return err
			}
		}
		state[name] = done
		return nil
	}
	for i := range targets {
		if err := visit(targets[i].Name); err != nil {
			return err
		}
	}
	return nil
}

// named says of which target an error is, where there are several.
func (b *building) named(t *making, err error) error {
	if err == nil || !b.several() {
		return err
	}
	return fmt.Errorf("target %s: %w", t.Name, err)
}

// info says what the build is asked for.
func (b *building) info() *event.BuildInfo {
	t := b.first()
	i := &event.BuildInfo{Names: t.Tags, Context: web.Redact(t.Context), File: t.File, Target: t.Target.Target, Platforms: t.Platforms}
	i.Dir, _ = os.Getwd() // for people: without it they see no less
	if !b.several() {
		return i
	}
	i.Names, i.File, i.Target = nil, "", ""
	for _, t := range b.targets {
		i.Names, i.Targets = append(i.Names, t.Tags...), append(i.Targets, t.Name)
		if context := web.Redact(t.Context); context != i.Context {
			i.Context = "."
		}
	}
	return i
}

// prepare reads what can be read of the options without opening anything.
func (t *making) prepare(ctx context.Context) (err error) {
	if t.tags, err = parseTags(t.Tags); err != nil {
		return err
	}
	if t.Args, err = withProxies(t.Args); err != nil {
		return err
	}
	var security runtime.Security
	if err := container.ParseSecurityOpts(t.SecurityOpts, &security); err != nil {
		return err
	}
	t.SecurityOpts, err = withProfile(ctx, security)
	return err
}

// open opens what the targets read.
func (b *building) open(ctx context.Context, open *closers.Stack) error {
	client := b.first().client()
	open.Push(client.Close)
	for _, t := range b.targets {
		t.shared = client
	}
	far, err := b.home.openFar(ctx, b.targets)
	if err != nil {
		return err
	}
	if far != nil {
		open.Push(far.Close)
	}
	cluster, err := b.home.openCluster(b.first().BuildOptions)
	if err != nil {
		return err
	}
	open.Push(b.shared.Close)
	for _, t := range b.targets {
		if t.src, err = b.home.openSources(ctx, t.BuildOptions, b.shared); err != nil {
			return b.named(t, err)
		}
		open.Push(t.src.Close)
		t.src.images.far, t.src.images.cluster, t.src.images.arrivals = far, cluster, b.first().src.images.arrivals
		for name := range t.From {
			t.src.Named[name] = planner.Context{} // set when it is planned
		}
	}
	return nil
}

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
		if _, lost := errors.AsType[*remote.LostError](err); !lost {
			r.Stopped = t.stopped(g, workers[0], err)
		}
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
			done := finished{b.began, t.src, t.graphs, t.results}
			if r.metadata, err = metadataOf(t.BuildOptions, done); err == nil {
				err = h.output(ctx, t.BuildOptions, r, done, t.outputs)
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
