package forge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/registry"
)

// farImages are those of which only manifest and configuration are here. Safe for concurrent use.
type farImages struct {
	mu    sync.Mutex // guards all below
	all   []*farImage
	steps map[digest.Digest]*event.Step // by the digest of the image's manifest
}

// A farImage is in a registry, or in a layout that is not ours.
type farImage struct {
	name  image.Reference // to have here; zero for none
	image *image.Image
	from  registry.Fetcher

	mu   sync.Mutex // held while it is fetched
	here bool
}

// fromRegistry asks a registry what a name, as people type it, stands for.
func (r *resolver) fromRegistry(ctx context.Context, name string, p *ocispec.Platform) (*image.Image, error) {
	repo, d, err := r.remote.client().Search(ctx, name)
	if registry.NamesImage(err) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	img, err := repo.Image(ctx, d, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", repo.Reference().Familiar(), err)
	}
	r.add(&farImage{name: repo.Reference(), image: img, from: repo})
	return img, nil
}

// fromLayout reads an image of an OCI layout: DIR[:TAG] or DIR@DIGEST.
func (r *resolver) fromLayout(ctx context.Context, spec string, p *ocispec.Platform) (*image.Image, error) {
	if dir, d, ok := strings.Cut(spec, "@"); ok {
		spec = dir + ":" + d
	}
	endpoint, err := registry.ParseEndpoint("oci:" + spec)
	if err != nil {
		return nil, err
	}
	img, from, err := registry.OpenImage(ctx, endpoint, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", endpoint, err)
	}
	r.add(&farImage{image: img, from: from})
	return img, nil
}

func (r *resolver) add(f *farImage) {
	r.far.mu.Lock()
	defer r.far.mu.Unlock()
	r.far.all = append(r.far.all, f)
}

// FetchLayers brings the images that layers belong to here. Where nothing is far, it does nothing.
func (r *resolver) FetchLayers(ctx context.Context, layers []image.Layer) error {
	r.far.mu.Lock()
	all := append([]*farImage(nil), r.far.all...)
	r.far.mu.Unlock()
	for _, f := range all {
		if !f.holds(layers) {
			continue
		}
		if err := r.fetch(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (f *farImage) holds(layers []image.Layer) bool {
	for _, mine := range f.image.Manifest.Layers {
		for _, l := range layers {
			if mine.Digest == l.Blob.Digest {
				return true
			}
		}
	}
	return false
}

// fetch copies an image here, once.
func (r *resolver) fetch(ctx context.Context, f *farImage) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.here {
		return nil
	}
	step := r.stepOf(f)
	events := event.Sink(func(e event.Event) {
		e.Step = step
		r.remote.Events.Send(e)
	})
	start := time.Now()
	if step != nil {
		events.Send(event.Event{Kind: event.Started})
	}
	_, err := registry.Copy(ctx, r.home.store(), f.from, f.image.Descriptor, registry.CopyOptions{
		Name: f.name, Partial: r.home.partial(), Events: events,
	})
	if err != nil {
		err = wrapTransfer("pull", f.name, err)
		if step != nil && ctx.Err() == nil {
			events.Send(event.Event{Kind: event.Failed, Error: err.Error()})
		}
		return err
	}
	if step != nil {
		events.Send(event.Event{Kind: event.Done, Duration: time.Since(start)})
	}
	f.here = true
	return nil
}

// reportFor makes the images that are fetched from now on steps of a graph: those of its FROMs.
func (r *resolver) reportFor(g *planner.Graph) {
	r.far.mu.Lock()
	defer r.far.mu.Unlock()
	r.far.steps = map[digest.Digest]*event.Step{}
	for i, s := range executor.Steps(g) {
		if base, ok := g.Steps[i].Op.(*planner.Base); ok {
			r.far.steps[base.Image.Descriptor.Digest] = s
		}
	}
}

// stepOf is the step that f is the image of, nil if there is none.
func (r *resolver) stepOf(f *farImage) *event.Step {
	r.far.mu.Lock()
	defer r.far.mu.Unlock()
	return r.far.steps[f.image.Descriptor.Digest]
}

// imageToRun finds an image here, or pulls it.
func (h *Home) imageToRun(ctx context.Context, o RunOptions) (*image.Image, error) {
	if o.Pull != PullAlways {
		img, err := h.Image(ctx, o.Image, o.Platform)
		if err == nil && o.Platform != nil && !platforms.Only(*o.Platform).Match(img.Config.Platform) {
			err = &NotFoundError{Name: fmt.Sprintf("%s for %s", o.Image, platforms.Format(*o.Platform))}
		}
		missing, ok := errors.AsType[*NotFoundError](err)
		if !ok {
			return img, err
		}
		if o.Pull == PullNever {
			missing.Hint = "pulling is off"
			return nil, missing
		}
	}
	ref, err := image.ParseReference(o.Image)
	if err != nil {
		return nil, err
	}
	if o.Pull != PullAlways {
		o.Events.Send(event.Event{Kind: event.Note, Text: fmt.Sprintf("Unable to find image '%s' locally", ref.Familiar())})
	}
	pulled, err := h.Pull(ctx, o.Image, PullOptions{RemoteOptions: o.RemoteOptions, Platform: o.Platform})
	if err != nil {
		return nil, err
	}
	return h.Layout.Image(ctx, pulled[0].Descriptor, o.Platform)
}
