package forge

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
)

// CopyOptions say what to copy.
type CopyOptions struct {
	RemoteOptions
	Platforms []string // which images of an index, os/arch[/variant]; none is all
}

// Copy copies an image from one place to another, each a NAME in a registry, oci:DIR[:TAG], oci-archive:FILE[:TAG],
// docker-archive:FILE[:NAME] or docker-daemon:NAME, and returns what stands for it there. Nothing of it is kept in a state directory.
func Copy(ctx context.Context, dst, src string, o CopyOptions) (d ocispec.Descriptor, err error) {
	platforms, err := parsePlatforms(o.Platforms)
	if err != nil {
		return d, err
	}
	defer queue(&o.Events)()
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	return client.Transfer(ctx, dst, src, thisPlatform(), registry.CopyOptions{Platforms: platforms, Events: o.Events})
}

// receive copies an image into the store, for one platform if d is an index: each layer is verified, inflated and indexed while it
// arrives. Unless name is zero, it is named, as what name's repository has.
func (h *Home) receive(ctx context.Context, from registry.Source, d ocispec.Descriptor, p ocispec.Platform, name image.Reference, events event.Sink) (ocispec.Descriptor, error) {
	got, err := registry.Copy(ctx, h.Layout, from.Store, d, registry.CopyOptions{
		Platforms: []ocispec.Platform{p}, Index: registry.WholeIndex, Partial: h.partial(), Events: events,
		PushLayer: h.pushLayer, Prove: h.Layout.Prove, Publish: h.Layout.Publish, Reject: from.Reject,
	})
	if err != nil || name == (image.Reference{}) {
		return got, err
	}
	return got, h.Layout.TagAll(ctx, image.Named{Reference: name, Descriptor: got, Remote: got.Digest})
}

// pushLayer takes a layer in one pass: its blob, its tar and the index that mounts the tar.
func (h *Home) pushLayer(ctx context.Context, l image.Layer, in image.Incoming) (err error) {
	snapshots, err := h.Snapshots()
	if err != nil {
		return err
	}
	indexer := snapshots.Indexer()
	defer func() { err = errors.Join(err, indexer.Close()) }()
	if err := h.Layout.PushLayer(ctx, l, in, indexer); err != nil {
		return err
	}
	return indexer.Finish(l.DiffID)
}

// elsewhere finds repositories of ref's registry that have layers already: those that images of the store are named for.
func (h *Home) elsewhere(ctx context.Context, ref image.Reference, c image.Compression) func(digest.Digest) string {
	const most = 10_000 // blobs that are remembered
	where := sync.OnceValue(func() map[digest.Digest]string {
		where := map[digest.Digest]string{}
		all, err := h.Layout.List(ctx)
		if err != nil {
			return where // it was only a guess
		}
		for _, n := range all {
			if n.Reference.Domain != ref.Domain || n.Reference.Path == ref.Path || len(where) > most {
				continue
			}
			img, err := h.Layout.AnyImage(ctx, n.Descriptor)
			if err != nil {
				continue
			}
			for _, l := range img.Layers() {
				where[l.Blob.Digest] = n.Reference.Path
				if form, ok := h.Layout.Compressed(l, c); ok {
					where[form.Digest] = n.Reference.Path
				}
			}
		}
		return where
	})
	return func(d digest.Digest) string { return where()[d] }
}
