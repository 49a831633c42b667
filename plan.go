package forge

import (
	"context"
	"errors"
	"maps"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
)

// parse reads the build file.
func (o *BuildOptions) parse(src *sources) (*parser.File, error) {
	return parser.Parse(src.Name, src.Text, parser.Options{
		Syntax: o.Args["BUILDKIT_SYNTAX"], Check: o.Args["BUILDKIT_DOCKERFILE_CHECK"],
	})
}

// planner is the part of the options that the planner needs.
func (o *BuildOptions) planner(src *sources, platform ocispec.Platform) planner.Options {
	args := o.Args
	if o.Epoch != nil {
		args = maps.Clone(args)
		if args == nil {
			args = map[string]string{}
		}
		args["SOURCE_DATE_EPOCH"] = strconv.FormatInt(o.Epoch.Unix(), 10)
	}
	return planner.Options{
		Target:        o.Target,
		BuildArgs:     args,
		Labels:        o.Labels,
		Platform:      platform,
		BuildPlatform: thisPlatform(),
		Resolver:      src.images,
		Contexts:      src.Named,
		Ignore:        src.Ignore,
		NoCacheFilter: o.NoCacheFilter,
		ContextTime:   o.contextTime(src),
		Network:       o.Network,
		Allow:         o.Allow,
	}
}

// Plan is Build without doing anything: a preview for each platform.
func (h *Home) Plan(ctx context.Context, o BuildOptions) (previews []Preview, err error) {
	b := h.newBuilding([]Target{{BuildOptions: o}})
	t := b.first()
	t.Events = nil
	var open closers.Stack
	defer func() { err = errors.Join(err, open.Close()) }()
	if err := b.open(ctx, &open); err != nil {
		return nil, err
	}
	if err := b.plan(ctx); err != nil {
		return nil, err
	}
	if _, err := commonEpoch(t.graphs); err != nil {
		return nil, err
	}
	known, err := h.probe(ctx, b)
	if err != nil {
		return nil, err
	}
	for _, g := range t.graphs {
		preview := Preview{Graph: g.Own()}
		for _, s := range preview.Graph.Steps {
			preview.Cached = append(preview.Cached, known[s.Number()-1])
		}
		previews = append(previews, preview)
	}
	return previews, nil
}

// probe reports which steps of a build are in the cache. A step whose layer a cache has lost is not, and all is asked again without it.
func (h *Home) probe(ctx context.Context, b *building) (known []bool, err error) {
	workers, err := h.workers(b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeWorkers(workers)) }()
	t := b.first()
	for {
		known, err = executor.Probe(ctx, t.graphs[0], h.executorOptions(t.BuildOptions, workers[0].Inputs, t.src.images, workers[0]))
		lost, ok := errors.AsType[*remote.LostError](err)
		if !ok || ctx.Err() != nil {
			return known, err
		}
		t.src.images.forget(lost)
	}
}

// ask reads the build file and hands it to question with what the planner needs. It returns the file also if it has a mistake.
func (h *Home) ask(ctx context.Context, o BuildOptions, question func(*parser.File, planner.Options) error) (file *parser.File, err error) {
	err = h.withSources(ctx, o, func(src *sources) error {
		platforms, err := buildPlatforms(o.Platforms)
		if err != nil {
			return err
		}
		if file, err = o.parse(src); err != nil {
			return err
		}
		return question(file, o.planner(src, platforms[0]))
	})
	return file, err
}
