package forge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/cloud"
)

// RemoteOptions say how registries are asked. The zero value is right for people.
type RemoteOptions struct {
	Insecure bool       // allow http, and TLS without verification
	Offline  bool       // registries are not asked: what is not here is an error that names it
	Events   event.Sink // takes what happens, one event at a time; may be nil
	Servers  ServerOptions

	// Credentials are those of registries, by RegistryHost; of a registry that is not named, those that are configured hold.
	Credentials map[string]Credential

	// AskCredential is asked for that of a registry, by the same name, which is in neither; an empty one is none. Nil asks nobody.
	AskCredential func(ctx context.Context, registry string) (Credential, error)

	// CredentialHelpers are built-in ones (see CheckCredentialHelpers), asked in this order for what is configured nowhere.
	CredentialHelpers []string

	shared *registry.Client // of all that one build asks registries; nil makes one each time
}

// A Credential is what a registry knows its user by.
type Credential = registry.Credential

// queue puts a queue before a sink: what sends to it need not wait for who shows it. The queue is to be closed.
func queue(sink *event.Sink) (closed func()) {
	q := event.NewQueue(newID()[:12], *sink)
	*sink = q.Sink()
	return q.Close
}

// client speaks to registries.
func (o RemoteOptions) client() *registry.Client {
	if o.shared != nil {
		return o.shared
	}
	return registry.NewClient(registry.Options{
		Credentials: o.Credentials, Ask: o.AskCredential, Helpers: o.CredentialHelpers, Insecure: o.Insecure, Offline: o.Offline, Events: o.Events,
	})
}

// CheckCredentialHelpers reports an error if there is no built-in helper of one of these names: env, google, ecr, acr, gitlab.
func CheckCredentialHelpers(names []string) error { return cloud.Check(names) }

// PullOptions say which images of a repository to pull.
type PullOptions struct {
	RemoteOptions
	Platform string // which image of an index, os/arch[/variant]; "" is this machine's
	AllTags  bool
}

// A PullResult is an image that was pulled.
type PullResult struct {
	Name       image.Reference
	Descriptor ocispec.Descriptor // what the name stands for: the image's manifest, or the index that it is of
	Source     digest.Digest      // what the name stands for in the registry
	Updated    bool               // the name stood for something else in the store, or for nothing, or the image was not there
}

// Pull copies an image into the store, or all of a repository: each layer is verified, inflated and indexed while it downloads.
func (h *Home) Pull(ctx context.Context, name string, o PullOptions) ([]PullResult, error) {
	defer queue(&o.Events)()
	want, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	if o.AllTags {
		return h.pullAll(ctx, client, name, want, o.Events)
	}
	repo, d, err := client.Search(ctx, name)
	if err != nil {
		return nil, err
	}
	p, err := h.pull(ctx, repo, repo.Reference(), d, want, o.Events)
	if err != nil {
		return nil, wrapTransfer("pull", repo.Reference(), err)
	}
	h.imageEvent("pull", p.Name.Familiar(), p.Name.Familiar())
	return []PullResult{p}, nil
}

// pullAll pulls all tags of a repository.
func (h *Home) pullAll(ctx context.Context, client *registry.Client, name string, want *ocispec.Platform, events event.Sink) (all []PullResult, err error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	repo, err := client.Connect(ref)
	if err != nil {
		return nil, err
	}
	repo = repo.Whole()
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
		if doc, _, err := image.ReadDocument(ctx, repo, d); err == nil && !isImage(doc) {
			events.Send(event.Event{Kind: event.Note, Text: fmt.Sprintf("%s is no image and is left out", ref.Familiar())})
			continue
		}
		p, err := h.pull(ctx, repo, ref, d, want, events)
		if err != nil {
			return all, wrapTransfer("pull", ref, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// isImage reports whether a manifest or an index is of images: beside them, repositories hold signatures, caches and other artifacts.
func isImage(doc *image.Document) bool {
	return doc.ArtifactType == "" && !remote.Holds(doc) && (doc.IsIndex() || image.IsConfig(doc.Config.MediaType))
}

// pull copies the image that ref stands for into the store: of an index the one for the platform that is wanted, nil being this machine's.
func (h *Home) pull(ctx context.Context, repo *registry.Repository, ref image.Reference, d ocispec.Descriptor, want *ocispec.Platform, events event.Sink) (PullResult, error) {
	p := PullResult{Name: ref, Source: d.Digest}
	platform := thisPlatform()
	if want != nil {
		platform = *want
		if err := hasPlatform(ctx, repo, d, platform); err != nil {
			return p, err
		}
	}
	before, beforeErr := h.Layout.Resolve(ctx, ref)
	if beforeErr == nil {
		_, beforeErr = h.Layout.Image(ctx, before, &platform)
	}
	var err error
	p.Descriptor, err = h.receive(ctx, repo.Source(), d, platform, ref, events)
	p.Updated = beforeErr != nil || before.Digest != p.Descriptor.Digest
	return p, err
}

// hasPlatform refuses an image of another platform than the one that was asked for. An index refuses it by itself.
func hasPlatform(ctx context.Context, repo *registry.Repository, d ocispec.Descriptor, want ocispec.Platform) error {
	img, err := image.Read(ctx, repo, d, &want)
	if err != nil {
		return err
	}
	return isFor(img, want)
}

// isFor refuses an image that says that it is for another platform.
func isFor(img *image.Image, want ocispec.Platform) error {
	if got := img.Config.Platform; got.OS != want.OS || got.Architecture != want.Architecture {
		return fmt.Errorf("is for %s and not for %s", platforms.Format(got), platforms.Format(want))
	}
	return nil
}

// partial is where downloads wait to be whole.
func (h *Home) partial() *registry.Partial {
	return registry.OpenPartial(filepath.Join(h.Dir, "partial"), h.Layout.Guard)
}

// PushOptions say how to send an image.
type PushOptions struct {
	RemoteOptions
	AllTags bool // every tag of name's repository that the store has
	CompressionOptions
	Platforms []string // which images of an index, os/arch[/variant]; none is all that the store has
}

// CompressionOptions say which form layers that are kept as tars get on their way out.
type CompressionOptions struct {
	Compression string `help:"Of layers: gzip, zstd, none or estargz." enum:"gzip,zstd,none,estargz" default:"gzip" placeholder:"HOW"` // "" is gzip
	Level       int    `name:"compression-level" help:"0 is the algorithm's own." placeholder:"N"`
	Recompress  bool   `name:"force-compression" help:"Compress layers anew that have another form."`
}

// Push sends the image called name, or all of its repository that the store has, to its registry, and returns what it has sent, also
// after an error, with what the registry knows it as. Layers are compressed while they are sent, and what came of it is
// remembered.
func (h *Home) Push(ctx context.Context, name string, o PushOptions) (pushed []image.Named, err error) {
	defer queue(&o.Events)()
	c := registry.CopyOptions{Events: o.Events}
	if c.Forms, err = h.forms(o.CompressionOptions); err != nil {
		return nil, err
	}
	if c.Platforms, err = parsePlatforms(o.Platforms); err != nil {
		return nil, err
	}
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	images, err := h.imagesToPush(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	for _, n := range images {
		from := &resolver{home: h, arrivals: &arrivals{}}
		if err := from.knowAway(ctx, client, n); err != nil {
			return pushed, err
		}
		if n.Descriptor, err = h.pushTo(ctx, client, from, n.Descriptor, n.Reference, c, allStatements); err != nil {
			return pushed, err
		}
		h.imageEvent("push", n.Reference.Familiar(), n.Reference.Familiar())
		pushed = append(pushed, n)
	}
	return pushed, nil
}

// imagesToPush finds the image called ref or, if all tags are asked for, those of its repository.
func (h *Home) imagesToPush(ctx context.Context, ref image.Reference, o PushOptions) ([]image.Named, error) {
	if !o.AllTags {
		n, err := h.Layout.Lookup(ctx, ref)
		if err != nil {
			return nil, notFound(ref.Familiar(), err)
		}
		n.Reference = ref
		return []image.Named{n}, nil
	}
	all, err := h.Layout.List(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n image.Named) bool {
		return n.Reference.Domain != ref.Domain || n.Reference.Path != ref.Path || n.Reference.Tag == ""
	})
	if len(all) == 0 {
		return nil, &NotFoundError{Name: ref.Familiar(), Hint: "see forge images"}
	}
	return all, nil
}

// forms says which forms the layers of this store get on their way out.
func (h *Home) forms(o CompressionOptions) (*registry.Forms, error) {
	c, err := image.ParseCompression(o.Compression, o.Level)
	return &registry.Forms{Source: h.Layout, Compression: c, Recompress: o.Recompress}, err
}

// allStatements wants what is attached to an image, whichever build has done so.
func allStatements(string) bool { return true }

// pushTo sends an image, and what is attached to it of what is wanted. Layers that are not in the store are taken over by the registry, if it has them, or come from where images says.
func (h *Home) pushTo(ctx context.Context, client *registry.Client, images *resolver, d ocispec.Descriptor, ref image.Reference, o registry.CopyOptions, wants func(predicateType string) bool) (ocispec.Descriptor, error) {
	repo, err := client.Connect(ref)
	if err != nil {
		return d, err
	}
	local := d
	if c := o.Forms.Compression; c.Algorithm == image.EStargz {
		if d, err = h.estargz(ctx, d, c.Level); err != nil {
			return d, wrapTransfer("push", ref, err)
		}
	}
	repo = repo.Writable().Whole()
	elsewhere := h.elsewhere(ctx, ref, o.Forms.Compression)
	repo.MountFrom(func(d digest.Digest) string {
		if path := images.repositoryOf(ref.Domain, d); path != "" && path != ref.Path {
			return path
		}
		return elsewhere(d)
	})
	if images.far != nil {
		o.There = images.far.Held(ref)
	}
	o.Name, o.Index = ref, registry.HeldImages
	pushed, err := registry.Copy(ctx, repo, images, d, o)
	if err != nil {
		return d, wrapTransfer("push", ref, err)
	}
	if err := h.pushReferrers(ctx, repo, ref, local, pushed, wants); err != nil {
		return d, wrapTransfer("push", ref, err)
	}
	if doc, _, err := image.ReadDocument(ctx, repo, pushed); err == nil { // of which nothing has to be asked
		images.pushed = append(images.pushed, pushedBlobs{ref, doc.Children()})
	}
	return pushed, h.Layout.Pushed(ctx, ref, local, pushed.Digest)
}

// wrapTransfer says in which transfer an error came about, unless it names the image itself.
func wrapTransfer(verb string, ref image.Reference, err error) error {
	if err == nil || registry.NamesImage(err) {
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

// outputRegistry pushes what was built under one of its names.
func (h *Home) outputRegistry(ctx context.Context, o BuildOptions, out Output, ref image.Reference, r *BuildResult) error {
	if err := h.Layout.Publish(ctx); err != nil {
		return err
	}
	compression, err := out.compression()
	if err != nil {
		return err
	}
	forms, err := h.forms(compression)
	if err != nil {
		return err
	}
	if !o.Insecure && out.Attrs["registry.insecure"] == "true" {
		o.Insecure, o.shared = true, nil
	}
	if compression.Recompress || forms.Compression.Algorithm == image.EStargz {
		for _, img := range r.Images {
			if err := r.images.FetchLayers(ctx, img.Layers()); err != nil {
				return err
			}
		}
	}
	forms.Source = layerSource{h.Layout, r.images}
	client := o.client()
	if o.shared == nil {
		defer client.Close() //nolint:errcheck // of idle connections
	}
	pushed, err := h.pushTo(ctx, client, r.images, r.Descriptor, ref, registry.CopyOptions{Events: o.Events, Forms: forms}, o.Attest.Wants)
	if err != nil {
		return err
	}
	r.Pushed = append(r.Pushed, image.Named{Reference: ref, Descriptor: pushed})
	return nil
}
