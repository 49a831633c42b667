package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/lazy"
)

// errLazyHere is the error for a container that outlives the process that reads its layers.
var errLazyHere = errors.New("--pull lazy: this process reads the layers while the container runs: use forge run --rm, without -d, and without -i and -t together")

// lentAtOnce is how many layers are prepared at once: the table of contents of each is in memory meanwhile.
const lentAtOnce = 2

// lend reads an image in a registry, for a platform, nil being this machine's, and has the store use its layers without fetching them. Nothing of
// the image is in the store then. It returns in whole why the image has to be pulled, if it has to be.
func (h *Home) lend(ctx context.Context, o RunOptions, p *ocispec.Platform, events event.Sink) (_ *image.Image, whole, err error) {
	snapshots, err := h.Snapshots()
	if err != nil {
		return nil, nil, err
	}
	if whole := snapshots.CanLend(); whole != nil {
		return nil, whole, nil
	}
	repo, d, err := (&RemoteOptions{Insecure: o.Insecure, Events: events}).client().Search(ctx, o.Image)
	if registry.NamesImage(err) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.Image, err)
	}
	want := thisPlatform()
	if p != nil {
		want = *p
	}
	img, err := image.Read(ctx, repo, d, &want)
	if err == nil && p != nil {
		err = isFor(img, want)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.Image, err)
	}
	whole, err = h.lendTo(ctx, snapshots, repo, img, events)
	return img, whole, err
}

// lendTo has a store use the layers of an image that are not here. It returns in whole why that cannot be.
func (h *Home) lendTo(ctx context.Context, store *snapshot.Store, repo *registry.Repository, img *image.Image, events event.Sink) (whole, err error) {
	away, whole, err := h.lendable(ctx, img)
	if whole != nil || err != nil {
		return whole, err
	}
	return lendLayers(ctx, store, repo, away, events)
}

// lendable are the layers of an image that are not here, each once. It returns in whole why they cannot be used where they are.
func (h *Home) lendable(ctx context.Context, img *image.Image) (away []image.Layer, whole, err error) {
	blobs := map[digest.Digest]digest.Digest{} // by the layer
	var there []image.Layer
	for i, l := range img.Layers() {
		if blob, again := blobs[l.DiffID]; again {
			if blob != l.Blob.Digest {
				return nil, fmt.Errorf("layers %s and %s are to hold the same", blob, l.Blob.Digest), nil
			}
			continue
		}
		blobs[l.DiffID] = l.Blob.Digest
		here, err := h.Layout.HaveLayer(ctx, l)
		if err != nil {
			return nil, nil, err
		}
		if here {
			there = append(there, l)
			continue
		}
		l.Blob.Annotations = img.Manifest.Layers[i].Annotations
		if image.TOC(l.Blob) == "" {
			return nil, fmt.Errorf("layer %s is no eStargz (forge push --compression estargz)", l.Blob.Digest), nil
		}
		away = append(away, l)
	}
	return away, nil, h.Layout.Prove(ctx, there)
}

// lendLayers lends all of the layers or none. It returns in whole why one could not be lent.
func lendLayers(ctx context.Context, snapshots *snapshot.Store, repo *registry.Repository, layers []image.Layer, events event.Sink) (whole, err error) {
	all, allCtx := errgroup.WithContext(ctx)
	all.SetLimit(lentAtOnce)
	for _, l := range layers {
		all.Go(func() error { return lendLayer(allCtx, snapshots, repo, l, events) })
	}
	if whole = all.Wait(); whole == nil {
		return nil, nil
	}
	if err := snapshots.GiveBack(layers); err != nil {
		return nil, err
	}
	return whole, context.Cause(ctx)
}

func lendLayer(ctx context.Context, snapshots *snapshot.Store, repo *registry.Repository, l image.Layer, events event.Sink) error {
	if err := ctx.Err(); err != nil { // another layer has failed
		return err
	}
	file, err := snapshots.Nameless()
	if err != nil {
		return err
	}
	var told sync.Once // a program may try again and again
	failed := func(err error) {
		told.Do(func() {
			events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf("layer %s: what reads it gets an I/O error: %v", l.Blob.Digest, err)})
		})
	}
	fetch := func(ctx context.Context, from, to int64) (io.ReadCloser, error) {
		return repo.FetchRange(ctx, l.Blob, from, to)
	}
	layer, err := lazy.Open(ctx, l.Blob.Size, image.TOC(l.Blob), fetch, file, failed)
	if err == nil {
		err = snapshots.Lend(l, layer)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", l.Blob.Digest, errors.Join(err, file.Close()))
	}
	return nil
}

// lentName is the name under which the registry has the image of a container, whatever the container's own name of it stands for by now.
func lentName(r *containerRecord) string {
	ref, err := image.ParseReference(r.Image)
	if err != nil {
		return r.Image
	}
	ref.Tag, ref.Digest = "", r.Manifest.Digest
	return ref.Familiar()
}

// layersHere returns an error that says what to do if layers that a container was made from are not in the store.
func (h *Home) layersHere(ctx context.Context, r *containerRecord) error {
	if r.Config.Lent == nil {
		return nil
	}
	here, err := h.haveAll(ctx, []*image.Image{r.Config.Lent})
	if here || err != nil {
		return err
	}
	return fmt.Errorf("layers of container %s are in its registry alone: forge pull %s first", r.Name, lentName(r))
}

// snapshotsOf is the store with the layers of a container, those that are not here read where they are. The caller calls done.
func (h *Home) snapshotsOf(ctx context.Context, r *containerRecord) (_ *snapshot.Store, done func() error, err error) {
	store, err := h.Snapshots()
	if err != nil {
		return nil, nil, err
	}
	away := h.layersHere(ctx, r)
	if away == nil {
		return store, func() error { return nil }, nil
	}
	if err := store.CanLend(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", away, err)
	}
	client := (&RemoteOptions{Insecure: r.Config.Insecure}).client()
	repo, _, err := client.Search(ctx, lentName(r))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w: %w", away, err), client.Close())
	}
	// It ends with what is asked for, and this process may go on.
	if store, err = snapshot.Open(h.Dir, h.Layout, h.options.Snapshotter); err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	done = func() error { return errors.Join(store.Close(), client.Close()) }
	whole, err := h.lendTo(ctx, store, repo, r.Config.Lent, nil)
	if whole != nil && err == nil {
		err = fmt.Errorf("%w: %w", away, whole)
	}
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return store, done, nil
}
