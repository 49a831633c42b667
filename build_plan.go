package forge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/planner"
)

// settings are what the commands of a build are given besides their steps: secrets, limits, hosts. Targets that give theirs the same
// share them, and so the steps. Safe for concurrent use.
type settings struct {
	mu  sync.Mutex // guards all below
	all []string   // that differ, by Run.Request
	of  []*making  // the first target that has them
}

// request is which settings a command of a target gets: of secrets and keys only a command that mounts some gets those of its target.
func (s *settings) request(t *making, op *planner.Run) int {
	text := fmt.Sprintf("%q %q %+v %q", t.AddHosts, t.SecurityOpts, t.LimitOptions, t.Allow)
	for _, m := range op.Mounts {
		switch m.Type {
		case planner.Secret:
			text += fmt.Sprintf(" secrets %q", t.Secrets)
		case planner.SSH:
			text += fmt.Sprintf(" ssh %q", t.SSH)
		case planner.Bind, planner.Cache, planner.Tmpfs:
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.all, text)
	if i < 0 {
		i = len(s.all)
		s.all, s.of = append(s.all, text), append(s.of, t)
	}
	return i
}

// plansAtOnce is how many targets are planned at once: each may wait for registries.
const plansAtOnce = 8

// plan plans for each target and platform, and joins the graphs. What can be refused is refused before anything is done for any of them.
func (b *building) plan(ctx context.Context) error {
	planned := map[string]chan struct{}{}
	for _, t := range b.targets {
		planned[t.Name] = make(chan struct{})
	}
	by := b.byName()
	slots := make(chan struct{}, plansAtOnce)
	g, planCtx := errgroup.WithContext(ctx)
	errs := make([]error, len(b.targets))
	for i, t := range b.targets {
		g.Go(func() error {
			for _, from := range t.From {
				select {
				case <-planned[from]:
				case <-planCtx.Done():
					return planCtx.Err()
				}
			}
			slots <- struct{}{}
			defer func() { <-slots }()
			if errs[i] = b.planTarget(planCtx, t, by); errs[i] != nil {
				return errs[i]
			}
			close(planned[t.Name])
			return nil
		})
	}
	failed := g.Wait()
	b.reportLint()
	for i, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return b.named(b.targets[i], err)
		}
	}
	if failed != nil {
		return failed
	}
	b.join()
	return nil
}

// byName are the targets by their names.
func (b *building) byName() map[string]*making {
	by := map[string]*making{}
	for _, t := range b.targets {
		by[t.Name] = t
	}
	return by
}

// planTarget plans a target for each of its platforms. Beside an error, the graphs have the warnings that came before it.
func (b *building) planTarget(ctx context.Context, t *making, by map[string]*making) error {
	wanted, err := buildPlatforms(t.Platforms)
	if err != nil {
		return err
	}
	for _, p := range wanted {
		for name, from := range t.From {
			if err := t.stand(name, by[from]); err != nil {
				return err
			}
		}
		file, err := t.parse(t.src)
		if err != nil {
			t.graphs = append(t.graphs, &planner.Graph{Warnings: file.Warnings})
			return err
		}
		g, err := planner.Plan(ctx, file, b.planner(t, p))
		g.Name = t.Name
		if t.graphs = append(t.graphs, g); err != nil {
			return err
		}
	}
	return nil
}

// stand makes a named context what another target makes: for each platform its image of that, or the only one for all.
func (t *making) stand(name string, from *making) error {
	if len(from.graphs) == 1 {
		t.src.Named[name] = planner.Context{Graph: from.graphs[0]}
		return nil
	}
	delete(t.src.Named, name)
	for _, g := range from.graphs {
		t.src.Named[name+"::"+platforms.FormatAll(platforms.Normalize(g.Platform))] = planner.Context{Graph: g}
	}
	return nil
}

// planner is what the planner is told of a target.
func (b *building) planner(t *making, p ocispec.Platform) planner.Options {
	o := t.planner(t.src, p)
	if !b.several() {
		return o
	}
	o.NoCache = t.NoCache
	o.Request = func(op *planner.Run) int { return b.request(t, op) }
	o.Trees = map[string]string{}
	for name, tree := range t.src.Trees {
		o.Trees[name] = b.shared.Name(tree)
	}
	return o
}

// reportLint reports what lint rules have found. What another platform's or target's graph has said already is not said again.
func (b *building) reportLint() {
	found := map[event.Event]bool{}
	for _, t := range b.targets {
		for _, g := range t.graphs {
			for _, w := range g.Warnings {
				e := event.Event{
					Kind: event.Lint, Text: w.Rule + ": " + w.Detail, Source: event.Source{File: w.Span.File, Line: w.Span.Start},
				}
				if !found[e] {
					found[e] = true
					t.Events.Send(e)
				}
			}
		}
	}
}

// join makes the graphs of all targets and platforms one.
func (b *building) join() {
	var all []*planner.Graph
	for _, t := range b.targets {
		if unused := t.graphs[0].Unused; len(unused) > 0 {
			text := fmt.Sprintf("one or more build-args %v were not consumed: no ARG declares them", unused)
			if b.several() {
				text = "target " + t.Name + ": " + text
			}
			t.Events.Send(event.Event{Kind: event.Warning, Text: text})
		}
		all = append(all, t.graphs...)
	}
	all = planner.Join(all)
	for _, t := range b.targets {
		t.graphs, all = all[:len(t.graphs)], all[len(t.graphs):]
	}
}
