package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/event/builds"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/executor/local"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source"
)

// BuildOptions say what to build of what, and what to do with it. The zero value of all but Context works.
type BuildOptions struct {
	SourceOptions
	Target    string
	Args      map[string]string
	Labels    []string   // K=V
	Platforms []string   // os/arch[/variant]; more than one make an index; none is this machine's
	Epoch     *time.Time // SOURCE_DATE_EPOCH; nil leaves it to Args, where it may be "context", and to the build file
	needTime  bool       // of the context: see EpochOfContext
	StepOptions
	LimitOptions // of each RUN
	ReuseOptions
	ResultOptions
	RemoteOptions
	ClusterOptions
	BreakOptions
	Client *Client // lends what is not on this machine; nil where nobody does
}

// A Client is who has asked for a build over a connection, and what that machine lends: directories, in contexts and build files with names of
// [ClientPrefix], and what steps may read.
type Client struct {
	Files Lender // may be nil
	Steps container.Client
}

// What a Client lends of its directories.
type (
	Lender      = source.Lender
	LoanFilter  = source.Filter
	Loan        = source.Loan
	FileEntry   = filetree.Entry
	FileTree    = filetree.Tree
	LocalOutput = func(ctx context.Context, dir string, tree FileTree) error
)

// ClientPrefix begins the name of a context, or of a build file, in a directory of the client: client://DIR, client://DIR/FILE.
const ClientPrefix = source.LentPrefix

// SourceOptions say what a build reads.
type SourceOptions struct {
	Context  string            // directory, "-" (a tar or a build file on Stdin), or URL of a tar, build file or repository
	File     string            // build file; "" is Dockerfile in the context, "-" is Stdin
	Stdin    io.Reader         // for "-"
	Contexts map[string]string // named contexts (--build-context)
	Lock     LockMode
}

// StepOptions say what RUN may use, and where it runs.
type StepOptions struct {
	Secrets  []string // id=ID[,src=FILE|env=VAR]
	SSH      []string // ID[=SOCKET|KEY]
	Allow    []string // entitlements
	Network  string   // "default", "none" or "host"; "" is "default"
	AddHosts []string // HOST:IP

	Isolation    string   // "auto" (also "" and "default"), "namespaces" or "chroot"
	SecurityOpts []string // seccomp=unconfined|FILE or no-new-privileges; Build reads the file
}

// ReuseOptions say what of earlier builds and pulls is used again.
type ReuseOptions struct {
	NoCache       bool     // do every step
	NoCacheFilter []string // do the steps of these stages
	Pull          PullPolicy
	Explain       bool      // say why a step is not reused, and which cache has answered
	Since         time.Time // what was done after it is used all the same; zero is nothing
	CacheOptions
	Mounts MountOptions
}

// ResultOptions say what becomes of the image.
type ResultOptions struct {
	Tags        []string
	Annotations map[string]string // of the manifest, and of the index of several
	Squash      bool              // make one layer of all those above the base image
	Outputs     []Output          // none keeps the image in the store

	Attest                AttestOptions
	IIDFile, MetadataFile string // where the image's ID and what was made, as JSON, are written to; "" is nowhere
}

// A SyntaxError is a mistake in a build file.
type SyntaxError = parser.Error

// A BuildResult is what a build made.
type BuildResult struct {
	Descriptor ocispec.Descriptor // of the manifest, or of the index of several platforms
	Pushed     []image.Named      // as what registries know it, in the order in which it was pushed
	Images     []*image.Image     // one a platform
	Tags       []image.Reference

	Size         int64 // bytes of the images' layers without compression
	Reused, Done int   // steps that were answered from the cache, and that ran
	Duration     time.Duration

	Stopped *Stopped // where the build stopped, if BreakOptions asked for that: there is no image then. To be closed

	metadata metadata
	images   *resolver // where layers are that are not in the store
}

// Build makes the image that a build file describes and does with it what the outputs say. Nothing is tagged unless all
// of it succeeded; what was done of a failed build stays in the cache.
func (h *Home) Build(ctx context.Context, o BuildOptions) (r *BuildResult, err error) {
	start := time.Now()
	id, end := h.report(&o, start, &r, &err)
	defer end()
	limit, err := maxSize()
	if err != nil {
		return nil, err
	}
	defer func() { h.keepBelow(ctx, limit, o.Events) }()
	tags, err := parseTags(o.Tags)
	if err != nil {
		return nil, err
	}
	if o.Args, err = withProxies(o.Args); err != nil {
		return nil, err
	}
	var security runtime.Security
	if err := container.ParseSecurityOpts(o.SecurityOpts, &security); err != nil {
		return nil, err
	}
	if o.SecurityOpts, err = withProfile(ctx, security); err != nil {
		return nil, err
	}
	var open closers.Stack
	defer func() { err = errors.Join(err, open.Close()) }()
	o.shared = o.client()
	open.Push(o.shared.Close)
	far, err := h.openFar(ctx, o, tags)
	if err != nil {
		return nil, err
	}
	if far != nil {
		open.Push(far.Close)
	}
	src, err := h.openSources(ctx, o)
	if err != nil {
		return nil, err
	}
	open.Push(src.Close)
	src.images.far = far
	if src.images.cluster, err = h.openCluster(o); err != nil {
		return nil, err
	}
	graphs, err := h.planAll(ctx, o, src)
	if err != nil {
		return nil, err
	}
	r, err = h.make(ctx, o, src, graphs, tags, start)
	if r != nil && r.Stopped != nil {
		r.Stopped.open, open = append(open, r.Stopped.open...), nil
		return r, err
	}
	if err != nil {
		return r, err
	}
	for _, img := range r.Images {
		r.Size += h.imageSize(img)
	}
	r.Duration, r.metadata.build = time.Since(start), id
	return r, errors.Join(o.writeFiles(ctx, r), src.writePins(o.Lock))
}

// make does the steps of graphs, what the outputs say, and keeps what came of it for other machines. A layer that another machine has
// left and that is gone since is made here: all is asked again, and what is done already is answered from the cache.
func (h *Home) make(ctx context.Context, o BuildOptions, src *sources, graphs []*planner.Graph, tags []image.Reference, start time.Time) (*BuildResult, error) {
	outputs, err := o.outputSteps(tags, len(graphs[0].Steps))
	if err != nil {
		return nil, err
	}
	for {
		r := &BuildResult{Tags: tags, images: src.images}
		results, err := h.execute(ctx, o, src, graphs, outputs, r)
		if err == nil && r.Stopped == nil {
			r.Reused, r.Done = results[0].Reused, results[0].Done
			done := finished{start, src, graphs, results}
			if r.metadata, err = metadataOf(o, done); err == nil {
				err = h.output(ctx, o, r, done, outputs)
			}
		}
		if lost, ok := errors.AsType[*remote.LostError](err); ok && ctx.Err() == nil {
			src.images.forget(lost)
			continue
		}
		switch {
		case r.Stopped != nil:
			return r, err
		case results == nil:
			return nil, err
		case err == nil:
			h.saveFar(ctx, o, r, results)
		}
		return r, err
	}
}

// Builds are the last builds of this store, with all that they reported.
func (h *Home) Builds() builds.Store { return builds.Open(filepath.Join(h.Dir, "builds")) }

// report has the events of a build kept and puts a queue before their sink, and says how the build begins. It returns the ID
// of the build, and what says how it ended.
func (h *Home) report(o *BuildOptions, start time.Time, r **BuildResult, err *error) (id string, end func()) {
	show, kept := o.Events, h.Builds().Begin()
	o.Events = func(e event.Event) {
		show.Send(e)
		kept.Event(e)
	}
	id = newID()[:12]
	q := event.NewQueue(id, o.Events)
	o.Events = q.Sink()
	begin := event.Event{Kind: event.Begun, Time: start}
	begin.Begin = &event.BuildInfo{
		Names: o.Tags, Context: web.Redact(o.Context), File: o.File, Target: o.Target, Platforms: o.Platforms,
	}
	begin.Begin.Dir, _ = os.Getwd() // for people: without it they see no less
	o.Events.Send(begin)
	return id, func() {
		e := event.Event{Kind: event.Ended, Duration: time.Since(start)}
		if *err != nil {
			*err = failedStep(id, *err)
			e.Error = (*err).Error()
		} else if stopped := (*r).Stopped; stopped != nil {
			e.Error = fmt.Sprintf("stopped %s step %d", stopped.Place, stopped.Step.Number)
		} else {
			e.Text = (*r).ID().String()
		}
		o.Events.Send(e)
		q.Close()
		if unkept := kept.Close(); unkept != nil {
			show.Send(event.Event{Time: time.Now(), Kind: event.Warning, Text: "the events of this build are not kept: " + unkept.Error()})
		}
	}
}

// check refuses what can be refused before anything is opened.
func (o *BuildOptions) check() error {
	if err := o.give(&local.Worker{Containers: &container.Factory{}}); err != nil {
		return err
	}
	if err := o.checkOffline(); err != nil {
		return err
	}
	for _, out := range o.Outputs {
		if out.Type == "local" {
			continue
		}
		if o.Attest.any() && out.Dest != "" {
			return fmt.Errorf("output %s: --sbom and --provenance go with an image that is kept or pushed, or with type=local; an archive has no place for them", out.Type)
		}
		if err := checkDest(out.Dest); err != nil {
			return fmt.Errorf("output %s: %w", out.Type, err)
		}
	}
	if err := checkDest(o.IIDFile); err != nil {
		return fmt.Errorf("--iidfile: %w", err)
	}
	if err := checkDest(o.MetadataFile); err != nil {
		return fmt.Errorf("--metadata-file: %w", err)
	}
	return nil
}

// planAll plans for each platform. What can be refused is refused before anything is done for any of them.
func (h *Home) planAll(ctx context.Context, o BuildOptions, src *sources) ([]*planner.Graph, error) {
	platforms, err := buildPlatforms(o.Platforms)
	if err != nil {
		return nil, err
	}
	graphs := make([]*planner.Graph, len(platforms))
	found := map[event.Event]bool{}
	for i, p := range platforms {
		graphs[i], err = h.plan(ctx, o, src, p)
		for _, w := range graphs[i].Warnings { // what another platform's graph has said already is not said again
			e := event.Event{
				Kind: event.Lint, Text: w.Rule + ": " + w.Detail, Source: event.Source{File: w.Span.File, Line: w.Span.Start},
			}
			if !found[e] {
				found[e] = true
				o.Events.Send(e)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if unused := graphs[0].Unused; len(unused) > 0 {
		o.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf("one or more build-args %v were not consumed: no ARG declares them", unused)})
	}
	return planner.Join(graphs), nil
}

// execute does the steps of the graphs of all platforms, side by side. If they stop where somebody is to look around, r says where.
func (h *Home) execute(ctx context.Context, o BuildOptions, src *sources, graphs []*planner.Graph, outputs []outputStep, r *BuildResult) (_ []*executor.Image, err error) {
	if o.Epoch == nil {
		if o.Epoch, err = commonEpoch(graphs); err != nil {
			return nil, err
		}
	}
	worker, err := h.worker(o, src)
	if err != nil {
		return nil, err
	}
	defer func() {
		if r.Stopped == nil {
			err = errors.Join(err, closeWorker(worker))
		}
	}()
	if keeper := h.mountKeeper(ctx, o, src.Source); keeper != nil {
		worker.Containers.Caches = keeper
	}
	src.images.reportFor(graphs[0])
	does, err := h.clusterWorker(o, worker, src.images)
	if err != nil {
		return nil, err
	}
	if o.At != "" {
		r.Stopped, err = h.stopAt(ctx, o, graphs[0], worker, src.images)
		return nil, err
	}
	for _, s := range outputs {
		o.Events.Send(event.Event{Kind: event.Planned, Step: s.Step})
	}
	results, err := executor.Build(ctx, graphs, h.executorOptions(o, worker, src.images, does))
	if err != nil {
		if _, lost := errors.AsType[*remote.LostError](err); !lost {
			r.Stopped = o.stopped(graphs[0], worker, err)
		}
		return nil, err
	}
	for i, result := range results {
		if !o.pushedOnly() || o.Squash { // what is kept is whole
			if err := src.images.FetchLayers(ctx, result.Layers); err != nil {
				return nil, err
			}
		}
		if o.Squash {
			if err := h.squash(ctx, o, graphs[i], result); err != nil {
				return nil, err
			}
		}
		if n := len(result.Layers); n > image.MaxDockerLayers {
			o.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf(
				"the image has %d layers, and docker loads or pulls at most %d; --squash makes one of those that this build adds", n, image.MaxDockerLayers)})
		}
	}
	src.images.reportUnneeded()
	return results, nil
}

// commonEpoch is the SOURCE_DATE_EPOCH that an ARG of the build file sets, nil if none does.
func commonEpoch(graphs []*planner.Graph) (*time.Time, error) {
	epoch := graphs[0].Epoch
	for _, g := range graphs[1:] {
		if (g.Epoch == nil) != (epoch == nil) || epoch != nil && !g.Epoch.Equal(*epoch) {
			return nil, errors.New("the build file sets a SOURCE_DATE_EPOCH for each platform: set one for all, with --build-arg SOURCE_DATE_EPOCH=SECONDS")
		}
	}
	return epoch, nil
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
