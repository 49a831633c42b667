package forge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

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
	began   time.Time // that of the build
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
		b.targets = append(b.targets, &making{Target: targets[i], began: b.began})
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
	i := &event.BuildInfo{Names: t.Tags, Context: web.Redact(t.Context), File: web.Redact(t.File), Target: t.Target.Target, Platforms: t.Platforms}
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
	if cluster != nil {
		open.Push(cluster.Close)
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
