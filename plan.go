package forge

import (
	"context"
	"errors"
	"maps"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
)

// plan reads the source's build file and turns it into a graph for one platform. Beside an error, the graph has the warnings that
// came before it.
func (h *Home) plan(ctx context.Context, o BuildOptions, src *sources, platform ocispec.Platform) (*planner.Graph, error) {
	file, err := o.parse(src)
	if err != nil {
		return &planner.Graph{Warnings: file.Warnings}, err
	}
	return planner.Plan(ctx, file, o.planner(src, platform))
}

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
	far, err := h.openFar(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	if far != nil {
		defer far.Close() //nolint:errcheck // of idle connections
	}
	err = h.withSources(ctx, o, func(src *sources) error {
		src.images.far = far
		platforms, err := buildPlatforms(o.Platforms)
		if err != nil {
			return err
		}
		graphs := make([]*planner.Graph, len(platforms))
		for i, p := range platforms {
			if graphs[i], err = h.plan(ctx, o, src, p); err != nil {
				return err
			}
		}
		graphs = planner.Join(graphs)
		same := o
		if same.Epoch == nil {
			if same.Epoch, err = commonEpoch(graphs); err != nil {
				return err
			}
		}
		known, err := h.probe(ctx, same, src, graphs[0])
		if err != nil {
			return err
		}
		for _, g := range graphs {
			preview := Preview{Graph: g.Own()}
			for _, s := range preview.Graph.Steps {
				preview.Cached = append(preview.Cached, known[s.Number()-1])
			}
			previews = append(previews, preview)
		}
		return nil
	})
	return previews, err
}

// probe reports which steps of a graph are in the cache.
func (h *Home) probe(ctx context.Context, o BuildOptions, src *sources, g *planner.Graph) (known []bool, err error) {
	worker, err := h.worker(o, src)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeWorker(worker)) }()
	return executor.Probe(ctx, g, h.executorOptions(o, worker, src.images, worker))
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
