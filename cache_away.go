package forge

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
)

// An image that was built to be pushed may have layers that another machine has made and that are in its registry alone: it is away. It
// is listed like any other, and is pulled when somebody wants its files.

// whole brings an image that is away into the store, for one platform if it is an index (nil being this machine's), and returns its record.
// Of others it returns the record as it is.
func (h *Home) whole(ctx context.Context, n image.Named, p *ocispec.Platform, o RemoteOptions) (image.Named, error) {
	away, err := h.isAway(ctx, n, p)
	if err != nil {
		return n, fmt.Errorf("%s: %w", n.Reference.Familiar(), err)
	}
	if !away {
		return n, h.arrived(ctx, n)
	}
	platform := thisPlatform()
	if p != nil {
		platform = *p
	}
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	repo, d, err := pinned(ctx, client, n)
	if err != nil {
		return n, wrapTransfer("pull", n.Reference, err)
	}
	o.Events.Send(event.Event{Kind: event.Note, Text: fmt.Sprintf("layers of %s are in its registry: pulling them", n.Reference.Familiar())})
	if n.Descriptor, err = h.receive(ctx, repo.Source(), d, platform, n.Reference, o.Events); err != nil {
		return n, wrapTransfer("pull", n.Reference, err)
	}
	n.Away = false
	return n, nil
}

// arrived records that an image that was away is here, so that this is not made sure of anew each time. Of an index other images may be away.
func (h *Home) arrived(ctx context.Context, n image.Named) error {
	if !n.Away || image.IsIndex(n.Descriptor.MediaType) || !h.Layout.Names(n.Reference, n.Descriptor.Digest) {
		return nil
	}
	n.Away = false
	return h.Layout.TagAll(ctx, n)
}

// isAway reports whether layers of an image are in its registry alone.
func (h *Home) isAway(ctx context.Context, n image.Named, p *ocispec.Platform) (bool, error) {
	if !n.Away {
		return false, nil
	}
	if p == nil {
		p = new(thisPlatform())
	}
	img, err := h.Layout.Image(ctx, n.Descriptor, p)
	if err != nil {
		return true, nil //nolint:nilerr // its manifest is not here either
	}
	whole, err := h.haveAll(ctx, []*image.Image{img})
	return !whole, err
}

// pinned finds an image in its registry as it was pushed, whatever its name stands for there by now.
func pinned(ctx context.Context, client *registry.Client, n image.Named) (*registry.Repository, ocispec.Descriptor, error) {
	ref := n.Reference
	ref.Tag, ref.Digest = "", n.Remote
	repo, err := client.Connect(ref)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	repo = repo.Whole()
	d, err := repo.Resolve(ctx, ref)
	return repo, d, err
}

// fromAway is the image that n names, for p, with the layers that are in its registry.
func (r *resolver) fromAway(ctx context.Context, n image.Named, img *image.Image, p ocispec.Platform) (*image.Image, error) {
	whole, err := r.home.haveAll(ctx, []*image.Image{img})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Reference.Familiar(), err)
	}
	if whole {
		return img, nil
	}
	if r.pull == PullNever {
		return nil, &NotFoundError{Name: n.Reference.Familiar(), Hint: "its layers are in its registry, and " + r.off()}
	}
	repo, d, err := pinned(ctx, r.remote.client(), n)
	if err == nil {
		img, err = image.Read(ctx, repo, d, &p)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Reference.Familiar(), err)
	}
	r.deferLayers(&deferredImage{name: n.Reference, root: d, platform: p, image: img, from: repo.Source()})
	return img, nil
}

// knowAway has what is pushed of an image that is away come from the registry that has it.
func (r *resolver) knowAway(ctx context.Context, client *registry.Client, n image.Named) error {
	if !n.Away {
		return nil
	}
	repo, _, err := pinned(ctx, client, n)
	if err != nil {
		return wrapTransfer("pull", n.Reference, err)
	}
	r.away = append(r.away, repo.Source())
	return nil
}
