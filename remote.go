package forge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
)

// RemoteOptions say how registries are asked. The zero value is right for people.
type RemoteOptions struct {
	Insecure bool       // allow http, and TLS without verification
	Events   event.Sink // takes what happens, one event at a time; may be nil
}

// queued is o with a queue before its sink: what sends to it need not wait for who shows it. The queue is to be closed.
func (o RemoteOptions) queued() (RemoteOptions, *event.Queue) {
	q := event.NewQueue(newID()[:12], o.Events)
	o.Events = q.Sink()
	return o, q
}

// client speaks to registries.
func (o RemoteOptions) client() *registry.Client {
	return registry.NewClient(registry.Options{Insecure: o.Insecure, Events: o.Events})
}

// PullOptions say what of a repository to bring here.
type PullOptions struct {
	RemoteOptions
	Platform *ocispec.Platform // which image of an index; nil is this machine's
	AllTags  bool
}

// A PullResult is an image that was pulled.
type PullResult struct {
	Name       image.Reference
	Descriptor ocispec.Descriptor // what the name stands for: the image's manifest, or the index that it is of
	Source     digest.Digest      // what the name stands for in the registry
	Updated    bool               // the name stood for something else here, or for nothing, or the image was not here
}

// Pull brings an image here, or all of a repository: each layer is verified, inflated and indexed while it downloads.
func (h *Home) Pull(ctx context.Context, name string, o PullOptions) ([]PullResult, error) {
	remote, events := o.queued()
	defer events.Close()
	o.RemoteOptions = remote
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	if o.AllTags {
		return h.pullAll(ctx, client, name, o)
	}
	repo, d, err := client.Search(ctx, name)
	if err != nil {
		return nil, err
	}
	p, err := h.pull(ctx, repo, repo.Reference(), d, o)
	if err != nil {
		return nil, wrapTransfer("pull", repo.Reference(), err)
	}
	return []PullResult{p}, nil
}

// pullAll brings all tags of a repository here.
func (h *Home) pullAll(ctx context.Context, client *registry.Client, name string, o PullOptions) (all []PullResult, err error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	repo, err := client.Connect(ref)
	if err != nil {
		return nil, err
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		ref := image.Reference{Domain: ref.Domain, Path: ref.Path, Tag: tag}
		d, err := repo.Resolve(ctx, ref)
		if err != nil {
			return all, err
		}
		p, err := h.pull(ctx, repo, ref, d, o)
		if err != nil {
			return all, wrapTransfer("pull", ref, err)
		}
		all = append(all, p)
	}
	return all, nil
}

func (h *Home) pull(ctx context.Context, repo *registry.Repository, ref image.Reference, d ocispec.Descriptor, o PullOptions) (PullResult, error) {
	p := PullResult{Name: ref, Source: d.Digest}
	platform := thisPlatform()
	if o.Platform != nil {
		platform = *o.Platform
		if err := hasPlatform(ctx, repo, d, platform); err != nil {
			return p, err
		}
	}
	before, beforeErr := h.Layout.Resolve(ctx, ref)
	if beforeErr == nil {
		_, beforeErr = h.Layout.Image(ctx, before, &platform)
	}
	var err error
	p.Descriptor, err = h.receive(ctx, origin{repo, repo.Reject}, d, platform, ref, o.Events)
	p.Updated = beforeErr != nil || before.Digest != p.Descriptor.Digest
	return p, err
}

// hasPlatform refuses an image of another platform than the one that was asked for. An index refuses it by itself.
func hasPlatform(ctx context.Context, repo *registry.Repository, d ocispec.Descriptor, want ocispec.Platform) error {
	img, err := repo.Image(ctx, d, &want)
	if err != nil {
		return err
	}
	if got := img.Config.Platform; got.OS != want.OS || got.Architecture != want.Architecture {
		return fmt.Errorf("is for %s and not for %s", platforms.Format(got), platforms.Format(want))
	}
	return nil
}

// partial is where downloads wait to be whole.
func (h *Home) partial() *registry.Partial {
	return registry.OpenPartial(filepath.Join(h.Dir, "partial"))
}

// PushOptions say how to send an image.
type PushOptions struct {
	RemoteOptions
	Compression image.Compression // of layers that are kept as tars; the zero value is gzip
	Recompress  bool              // compress layers anew that have another form than that
	Platforms   []ocispec.Platform
}

// Push sends the image called name to its registry, under that name, and returns what the registry knows it as. Layers
// are compressed while they are sent, and what came of it is remembered.
func (h *Home) Push(ctx context.Context, name string, o PushOptions) (image.Reference, ocispec.Descriptor, error) {
	remote, events := o.queued()
	defer events.Close()
	o.RemoteOptions = remote
	ref, err := image.ParseReference(name)
	if err != nil {
		return ref, ocispec.Descriptor{}, err
	}
	d, err := h.Layout.Resolve(ctx, ref)
	if err != nil {
		return ref, d, notFound(ref.Familiar(), err)
	}
	d, err = h.pushTo(ctx, d, ref, o)
	return ref, d, err
}

func (h *Home) pushTo(ctx context.Context, d ocispec.Descriptor, ref image.Reference, o PushOptions) (ocispec.Descriptor, error) {
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	repo, err := client.Connect(ref)
	if err != nil {
		return d, err
	}
	local := d
	if o.Compression.Algorithm == image.EStargz {
		if d, err = h.estargz(ctx, d, o.Compression.Level); err != nil {
			return d, wrapTransfer("push", ref, err)
		}
	}
	repo = repo.Writable()
	repo.MountFrom(h.elsewhere(ctx, ref, o.Compression))
	pushed, err := registry.Copy(ctx, repo, h.Layout, d, registry.CopyOptions{
		Name: ref, Platforms: o.Platforms, Index: registry.HeldImages, Events: o.Events,
		Forms: &registry.Forms{Source: h.Layout, Compression: o.Compression, Recompress: o.Recompress},
	})
	if err != nil {
		return d, wrapTransfer("push", ref, err)
	}
	return pushed, h.Layout.Pushed(ctx, ref, local, pushed.Digest)
}

// wrapTransfer says in which transfer an error came about, unless it names the image itself.
func wrapTransfer(verb string, ref image.Reference, err error) error {
	if registry.NamesImage(err) {
		return err
	}
	return fmt.Errorf("%s %s: %w", verb, ref.Familiar(), err)
}

// estargz makes an image of the same files whose layers can be mounted lazily. Its layers are others, and so is its ID.
func (h *Home) estargz(ctx context.Context, d ocispec.Descriptor, level int) (ocispec.Descriptor, error) {
	if image.IsIndex(d.MediaType) {
		return d, errors.New("estargz: is for an image of one platform")
	}
	img, err := h.Layout.Image(ctx, d, nil)
	if err != nil {
		return d, err
	}
	var layers []image.Layer
	for _, l := range img.Layers() {
		made, err := h.Layout.EStargz(ctx, l, level)
		if err != nil {
			return d, err
		}
		layers = append(layers, made)
	}
	made, err := h.Layout.Write(ctx, img.Config, layers, img.Manifest.Annotations)
	if err != nil {
		return d, err
	}
	return made.Descriptor, h.Layout.Publish(ctx)
}

// PushAll sends every image of name's repository that has a tag here, and returns those that it has sent, also after an
// error, under their names and with what the registry knows them as.
func (h *Home) PushAll(ctx context.Context, name string, o PushOptions) (pushed []image.Named, err error) {
	remote, events := o.queued()
	defer events.Close()
	o.RemoteOptions = remote
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	all, err := h.Layout.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		if n.Reference.Domain != ref.Domain || n.Reference.Path != ref.Path || n.Reference.Tag == "" {
			continue
		}
		d, err := h.pushTo(ctx, n.Descriptor, n.Reference, o)
		if err != nil {
			return pushed, err
		}
		pushed = append(pushed, image.Named{Reference: n.Reference, Descriptor: d})
	}
	if len(pushed) == 0 {
		return nil, &NotFoundError{Name: ref.Familiar(), Hint: "see forge images"}
	}
	return pushed, nil
}

// outputRegistry pushes what was built.
func (h *Home) outputRegistry(ctx context.Context, o BuildOptions, out Output, tags []image.Reference, r *BuildResult) error {
	if len(tags) == 0 {
		return errors.New("needs a name to push to: -t NAME, or name=NAME")
	}
	if err := h.Layout.Publish(ctx); err != nil {
		return err
	}
	po := PushOptions{RemoteOptions: o.RemoteOptions, Recompress: out.Attrs["force-compression"] == "true"}
	po.Insecure = po.Insecure || out.Attrs["registry.insecure"] == "true"
	var err error
	if po.Compression, err = out.compression(); err != nil {
		return err
	}
	for _, ref := range tags {
		if r.Pushed, err = h.pushTo(ctx, r.Descriptor, ref, po); err != nil {
			return err
		}
	}
	return nil
}
