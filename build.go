package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// BuildOptions say what to build of what, and what to do with it. The zero value of all but Context works.
type BuildOptions struct {
	Context   string            // directory, "-" (a tar or a build file on Stdin), or URL of a tar, build file or repository
	File      string            // build file; "" is Dockerfile in the context, "-" is Stdin
	Stdin     io.Reader         // for "-"
	Contexts  map[string]string // named contexts (--build-context)
	Tags      []string
	Target    string
	Args      map[string]string
	Labels    []string // K=V
	Platforms []string // os/arch[/variant]; more than one make an index; none is this machine's

	Secrets []executor.Secret
	SSH     []executor.SSHSource
	Allow   []string // entitlements: network.host, security.insecure, device
	Network string   // of RUN: "default", "none" or "host"
	Limits  planner.Limits

	NoCache       bool
	NoCacheFilter []string
	Pull          PullPolicy
	Squash        bool
	Explain       bool
	Epoch         *time.Time // SOURCE_DATE_EPOCH
	Annotations   map[string]string
	Outputs       []Output // none keeps the image in the store

	Planned func(*planner.Graph) // is told of each platform's graph before its steps are done
	Events  func(executor.Event)
	Remote  RemoteOptions
}

// A BuildResult is what a build made.
type BuildResult struct {
	Descriptor ocispec.Descriptor // of the manifest, or of the index of several platforms
	Pushed     ocispec.Descriptor // what the registry knows it as; zero if it was not pushed
	Images     []*image.Image     // one a platform
	Tags       []image.Reference
}

// Build makes the image that a build file describes and does with it what the outputs say. Nothing is tagged unless all
// of it succeeded; what was done of a failed build stays in the cache.
func (h *Home) Build(ctx context.Context, o BuildOptions) (_ *BuildResult, err error) {
	tags, err := parseTags(o.Tags)
	if err != nil {
		return nil, err
	}
	src, err := h.openSource(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()

	platforms, err := parsePlatforms(o.Platforms)
	if err != nil {
		return nil, err
	}
	r := &BuildResult{Tags: tags}
	results := make([]*executor.Result, len(platforms))
	for i, p := range platforms {
		graph, err := h.plan(ctx, o, src, p)
		if err != nil {
			return nil, err
		}
		if results[i], err = h.execute(ctx, o, src, graph); err != nil {
			return nil, err
		}
	}
	return r, h.output(ctx, o, r, results)
}

// execute does the steps of a graph.
func (h *Home) execute(ctx context.Context, o BuildOptions, src *source, g *planner.Graph) (_ *executor.Result, err error) {
	if o.Epoch == nil {
		o.Epoch = g.Epoch // an ARG of the build file may set it
	}
	worker, err := h.worker(o, src)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, worker.Close()) }()
	if o.Planned != nil {
		o.Planned(g)
	}
	result, err := executor.Build(ctx, g, h.executorOptions(o, src, worker))
	if err != nil {
		return nil, err
	}
	if o.Squash {
		if err := h.squash(ctx, o, g, result); err != nil {
			return nil, err
		}
	}
	return result, src.resolver.FetchLayers(ctx, result.Layers) // what is listed is whole
}

// parseTags reads the names to give to an image.
func parseTags(names []string) ([]image.Reference, error) {
	refs := make([]image.Reference, len(names))
	for i, name := range names {
		ref, err := image.ParseReference(name)
		if err != nil {
			return nil, fmt.Errorf("tag: %w", err)
		}
		if ref.Digest != "" {
			return nil, fmt.Errorf("tag %s: a tag cannot hold a digest", name)
		}
		refs[i] = ref
	}
	return refs, nil
}
