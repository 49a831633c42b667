package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

// A deferredImage is in a registry, or in a layout that is not the store's. Its manifest and configuration were read, and its layers
// come when a step needs them.
type deferredImage struct {
	name     image.Reference    // to have in the store; zero for none
	root     ocispec.Descriptor // what the name stands for: the image's manifest, or the index that it is of
	platform ocispec.Platform   // of the image, if root is an index
	image    *image.Image
	from     registry.Source

	mu      sync.Mutex // held while it is fetched
	fetched bool
}

// fromRegistry asks a registry what a name, as people type it, stands for.
func (r *resolver) fromRegistry(ctx context.Context, name string, p ocispec.Platform) (*image.Image, error) {
	repo, d, err := r.remote.client().Search(ctx, name)
	if registry.NamesImage(err) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	img, err := image.Read(ctx, repo, d, &p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", repo.Reference().Familiar(), err)
	}
	if asked, err := image.ParseReference(name); err == nil {
		r.readAs(img, asked, repo.Reference())
	}
	r.deferLayers(&deferredImage{name: repo.Reference(), root: d, platform: p, image: img, from: repo.Source()})
	return img, nil
}

// fromIndex asks the registry for the image for p of an index d of which the store has only others. Where the registry has
// the index no more, the name is asked for anew, unless it pins the index.
func (r *resolver) fromIndex(ctx context.Context, ref image.Reference, d ocispec.Descriptor, p ocispec.Platform) (*image.Image, error) {
	if r.pull == PullNever {
		return nil, r.notInStore(ctx, ref, d, p, r.off())
	}
	repo, err := r.remote.client().Connect(ref)
	if err != nil {
		return nil, err
	}
	img, err := image.Read(ctx, repo, d, &p)
	if errors.Is(err, fs.ErrNotExist) && ref.Digest == "" {
		img, err = r.fromRegistry(ctx, ref.String(), p)
	} else if err == nil {
		r.deferLayers(&deferredImage{name: ref, root: d, platform: p, image: img, from: repo.Source()})
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", r.notInStore(ctx, ref, d, p, ""), err)
	}
	return img, nil
}

// notInStore says that of an index the store has only images of other platforms.
func (r *resolver) notInStore(ctx context.Context, ref image.Reference, d ocispec.Descriptor, p ocispec.Platform, hint string) error {
	other, err := r.home.Layout.AnyImage(ctx, d)
	if err != nil {
		return err
	}
	return wrongPlatform(ref.Familiar(), other, p, hint)
}

// What begins a context that is an image.
const (
	imagePrefix  = "docker-image://" // by its name
	layoutPrefix = "oci-layout://"   // of an OCI layout
)

// cutLayout cuts DIR[:TAG] or DIR@DIGEST.
func cutLayout(spec string) (dir, name string) {
	if dir, d, ok := strings.Cut(spec, "@"); ok {
		spec = dir + ":" + d
	}
	dir, name, _ = strings.Cut(spec, ":")
	return dir, name
}

// fromLayout reads an image of an OCI layout: DIR[:TAG] or DIR@DIGEST.
func (r *resolver) fromLayout(ctx context.Context, spec string, p *ocispec.Platform) (*image.Image, error) {
	if r.content != nil { // a client names no directory of this machine
		store, root, err := r.lentLayout(ctx, spec)
		if err != nil {
			return nil, fmt.Errorf("%s%s: %w", layoutPrefix, spec, err)
		}
		return r.fromStore(ctx, spec, store, root, p)
	}
	dir, name := cutLayout(spec)
	store, err := image.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	root, err := store.Resolve(ctx, image.Reference{Tag: name})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return r.fromStore(ctx, dir, store, root, p)
}

// fromStore reads an image of a store that is no registry.
func (r *resolver) fromStore(ctx context.Context, name string, store image.Store, root ocispec.Descriptor, p *ocispec.Platform) (*image.Image, error) {
	img, err := image.Read(ctx, store, root, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r.deferLayers(&deferredImage{root: img.Descriptor, image: img, from: registry.Source{Store: store}})
	return img, nil
}

func (r *resolver) deferLayers(d *deferredImage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deferred = append(r.deferred, d)
}

// FetchLayers brings the images that layers belong to into the store, unless they are there, and the layers that a far cache has answered
// with.
func (r *resolver) FetchLayers(ctx context.Context, layers []image.Layer) error {
	r.mu.Lock()
	all := slices.Clone(r.deferred)
	r.mu.Unlock()
	for _, d := range all {
		if !d.holds(layers) {
			continue
		}
		if err := r.fetch(ctx, d); err != nil {
			return err
		}
	}
	return r.fetchFar(ctx, layers)
}

// holds reports whether one of the layers is the image's.
func (d *deferredImage) holds(layers []image.Layer) bool {
	return slices.ContainsFunc(d.image.Manifest.Layers, func(own ocispec.Descriptor) bool {
		return slices.ContainsFunc(layers, func(l image.Layer) bool { return l.Blob.Digest == own.Digest })
	})
}

// fetch copies an image into the store, once.
func (r *resolver) fetch(ctx context.Context, d *deferredImage) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fetched {
		return nil
	}
	r.mu.Lock()
	step := r.steps[d.image.Descriptor.Digest] // zero if it is none
	r.mu.Unlock()
	events := event.Sink(func(e event.Event) {
		e.Step = step.Step
		r.remote.Events.Send(e)
	})
	if step.Step == nil {
		_, err := r.home.receive(ctx, d.from, d.root, d.platform, d.name, events)
		d.fetched = err == nil
		return wrapTransfer("pull", d.name, err)
	}
	events.Send(event.Event{Kind: event.Started})
	start := time.Now()
	_, err := r.home.receive(ctx, d.from, d.root, d.platform, d.name, events)
	took := time.Since(start)
	switch err = wrapTransfer("pull", d.name, err); {
	case err == nil:
		d.fetched = true
		events.Send(event.Event{Kind: event.Done, Duration: took})
	case ctx.Err() != nil:
		events.Send(event.Event{Kind: event.Canceled, Duration: took})
	default:
		failed := event.Event{Kind: event.Failed, Error: err.Error()}
		failed.Failure = &event.Failure{Excerpt: step.excerpt}
		events.Send(failed)
	}
	return err
}

// A baseStep is the step of a FROM, and what the build file says there.
type baseStep struct {
	*event.Step
	excerpt string
}

// reportFor makes the images that are fetched from now on steps of a graph: those of its FROMs.
func (r *resolver) reportFor(g *planner.Graph) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = map[digest.Digest]baseStep{}
	if len(r.deferred) == 0 {
		return
	}
	for i, s := range executor.Steps(g) {
		if base, ok := g.Steps[i].Op.(*planner.Base); ok {
			r.steps[base.Image.Descriptor.Digest] = baseStep{s, g.Steps[i].Quote()}
		}
	}
}

// Here reports whether the layers of an image need not be fetched; see executor.Bases.
func (r *resolver) Here(img *image.Image) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(r.deferred, func(d *deferredImage) bool { return d.image.Descriptor.Digest == img.Descriptor.Digest })
}

// reportUnneeded says of images that no step needed that they have not come.
func (r *resolver) reportUnneeded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.deferred {
		d.mu.Lock()
		if step, ok := r.steps[d.image.Descriptor.Digest]; ok && !d.fetched {
			r.remote.Events.Send(event.Event{Kind: event.Cached, Step: step.Step})
		}
		d.mu.Unlock()
	}
}

// imageToRun finds an image in the store, or pulls it. One of another platform than this machine's is taken where none was asked
// for and there is no other, with docker's warning. One that is lent is not in the store, which reads its layers where they are.
func (h *Home) imageToRun(ctx context.Context, o RunOptions, events event.Sink) (_ *image.Image, lent bool, err error) {
	note := func(text string) { events.Send(event.Event{Kind: event.Note, Text: text}) }
	noteForeign := func(img *image.Image) {
		note(fmt.Sprintf("WARNING: The requested image's platform (%s) does not match the detected host platform (%s) and no specific platform was requested",
			platforms.Format(img.Config.Platform), platforms.Format(thisPlatform())))
	}
	p, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, false, err
	}
	img, err := h.localToRun(ctx, o, p, events)
	missing, ok := errors.AsType[*NotFoundError](err)
	if o.Pull != PullAlways && !ok {
		if err == nil && p == nil && !runsOn(img, thisPlatform()) {
			noteForeign(img)
		}
		return img, false, err
	}
	if o.Pull == PullNever {
		missing.Hint = "pulling is off"
		return nil, false, missing
	}
	ref, err := image.ParseReference(o.Image)
	if err != nil {
		return nil, false, err
	}
	if o.Pull != PullAlways {
		note(fmt.Sprintf("Unable to find image '%s' locally", ref.Familiar()))
	}
	if o.Pull == PullLazy {
		img, whole, err := h.lend(ctx, o, p, events)
		if err == nil && whole == nil && p == nil && !runsOn(img, thisPlatform()) {
			noteForeign(img)
		}
		if whole == nil || err != nil {
			return img, err == nil, err
		}
		note(fmt.Sprintf("%s is pulled whole: %v", ref.Familiar(), whole))
	}
	pulled, err := h.Pull(ctx, o.Image, PullOptions{RemoteOptions: RemoteOptions{Insecure: o.Insecure, Events: events}, Platform: o.Platform})
	if err != nil {
		return nil, false, err
	}
	img, err = h.Layout.Image(ctx, pulled[0].Descriptor, p)
	return img, false, err
}

// localToRun finds an image in the store. It is a *NotFoundError if there is none for the platform that was asked for or, of an
// index that names one for this machine, not that one.
func (h *Home) localToRun(ctx context.Context, o RunOptions, p *ocispec.Platform, events event.Sink) (*image.Image, error) {
	n, err := h.Layout.Find(ctx, o.Image)
	if err != nil {
		return nil, notFound(o.Image, err)
	}
	if away, err := h.isAway(ctx, n, p); err == nil && away && o.Pull == PullNever {
		return nil, &NotFoundError{Name: "layers of " + o.Image}
	}
	if n, err = h.whole(ctx, n, p, RemoteOptions{Insecure: o.Insecure, Events: events}); err != nil {
		return nil, err
	}
	img, err := h.Layout.Image(ctx, n.Descriptor, p)
	_, foreign := errors.AsType[*image.PlatformError](err)
	switch {
	case foreign && p == nil, errors.Is(err, fs.ErrNotExist) && p == nil && o.Pull == PullNever:
		return h.Layout.AnyImage(ctx, n.Descriptor)
	case errors.Is(err, fs.ErrNotExist), err == nil && p != nil && !runsOn(img, *p):
		want := thisPlatform()
		if p != nil {
			want = *p
		}
		return nil, &NotFoundError{Name: o.Image + " for " + platforms.Format(want)}
	}
	return img, err
}
