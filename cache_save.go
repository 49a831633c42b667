package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
)

// layersAtOnce is how many layers of a far cache are fetched at once.
const layersAtOnce = 4

// fetchFar brings the layers that a far cache has answered with. One that cannot be had is a *remote.LostError.
func (r *resolver) fetchFar(ctx context.Context, layers []image.Layer) error {
	if r.far == nil && r.cluster == nil {
		return nil
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(layersAtOnce)
	for _, l := range layers {
		place := r.holder(l)
		if place == nil {
			continue
		}
		g.Go(func() error {
			here, err := r.home.Layout.HaveLayer(gctx, l)
			if err != nil {
				return err
			}
			if here {
				return lost(gctx, l, place, r.home.Layout.Prove(gctx, []image.Layer{l}))
			}
			return r.fetchLayer(gctx, place, l)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if r.far != nil {
		r.far.Here(ctx, layers)
	}
	return nil
}

func (r *resolver) fetchLayer(ctx context.Context, place *remote.Place, l image.Layer) error {
	_, err := registry.CopyLayers(ctx, r.home.Layout, place.Read, []image.Layer{l}, registry.CopyOptions{
		Partial: r.home.partial(), Events: r.remote.Events, PushLayer: r.home.pushLayer, Prove: r.home.Layout.Prove, Publish: r.home.Layout.Publish,
	})
	return lost(ctx, l, place, err)
}

// Fetch gives a blob of the store or, of an image or a layer whose bytes are elsewhere, from there: what is pushed on need not come to
// the store. It implements image.Fetcher.
func (r *resolver) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	rc, err := r.home.Layout.Fetch(ctx, d, offset)
	if !errors.Is(err, fs.ErrNotExist) {
		return rc, err
	}
	if from := r.deferredHolder(d.Digest); from != nil {
		return from.Store.Fetch(ctx, d, offset)
	}
	l := image.Layer{Blob: d, DiffID: d.Digest}
	place := r.holder(l)
	if place == nil {
		return nil, err
	}
	rc, farErr := place.Read.Fetch(ctx, d, offset)
	if farErr != nil && ctx.Err() == nil {
		return nil, lost(ctx, l, place, farErr)
	}
	return rc, farErr
}

// deferredHolder is where the image is that has a layer; nil if no image that was deferred has it.
func (r *resolver) deferredHolder(blob digest.Digest) *registry.Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.deferred {
		if slices.ContainsFunc(d.image.Manifest.Layers, func(l ocispec.Descriptor) bool { return l.Digest == blob }) {
			return &d.from
		}
	}
	if len(r.away) > 0 {
		return &r.away[0]
	}
	return nil
}

// repositoryOf is the repository of a registry that has a blob which is not in the store; "" if none is known to.
func (r *resolver) repositoryOf(domain string, blob digest.Digest) string {
	if from := r.deferredHolder(blob); from != nil && from.Repo != nil && from.Repo.Reference().Domain == domain {
		return from.Repo.Reference().Path
	}
	if r.far == nil {
		return ""
	}
	if p := r.far.Holder(image.Layer{Blob: ocispec.Descriptor{Digest: blob}}); p != nil && p.Repository.Domain == domain {
		return p.Repository.Path
	}
	return ""
}

// saveFar leaves what a build has used and made to other machines. What goes wrong is told, and is no failure of the build.
func (h *Home) saveFar(ctx context.Context, b *building, results []*BuildResult) {
	far := results[0].images.far
	if far == nil {
		return
	}
	for _, t := range far.targets {
		o := b.targets[t.of].BuildOptions
		var keep []image.Layer
		for _, result := range b.targets[t.of].results {
			keep = append(keep, result.Layers...)
		}
		n, err := h.saveTo(ctx, results[t.of], t, keep)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, fs.ErrPermission):
			o.Events.Send(event.Event{Kind: event.Note, Text: fmt.Sprintf("cache %s is only read: %v", t.Scope, err)})
		case errors.Is(err, remote.ErrBusy):
			o.Events.Send(event.Event{Kind: event.Note, Text: fmt.Sprintf("cache %s: %v; what this build has done may not be kept", t.Scope, err)})
		case err != nil:
			o.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf("cache %s: nothing is kept: %v", t.Scope, err)})
		case n > 0:
			answers := "answers"
			if n == 1 {
				answers = "answer"
			}
			o.Events.Send(event.Event{Kind: event.Note, Text: fmt.Sprintf("cache %s keeps %d more %s", t.Scope, n, answers)})
		}
	}
}

func (h *Home) saveTo(ctx context.Context, r *BuildResult, t farTarget, keep []image.Layer) (int, error) {
	far := r.images.far
	records, err := far.Pending(ctx, t.Target, keep)
	if err != nil || len(records) == 0 {
		return 0, err
	}
	compression, err := h.forms(t.compression)
	if err != nil {
		return 0, err
	}
	compression.Source = layerSource{h.Layout, r.images}
	var layers []image.Layer
	for _, record := range records {
		l := record.Layer
		if l.DiffID == "" || slices.ContainsFunc(layers, func(other image.Layer) bool { return other.DiffID == l.DiffID }) {
			continue
		}
		here, err := h.Layout.HaveLayer(ctx, l)
		if err != nil {
			return 0, err
		}
		if here || r.images.holder(l) != nil {
			layers = append(layers, l)
		}
	}
	if t.compression.Recompress {
		if err := r.images.FetchLayers(ctx, layers); err != nil {
			return 0, err
		}
	}
	forms, err := registry.CopyLayers(ctx, t.Place.Write, r.images, layers, registry.CopyOptions{
		Forms: compression, There: r.thereIn(t.Place),
	})
	if err != nil {
		return 0, err
	}
	byDiffID := map[digest.Digest]ocispec.Descriptor{}
	for i, l := range layers {
		byDiffID[l.DiffID] = forms[i]
	}
	n, err := far.Save(ctx, t.Target, records, byDiffID)
	if n > 0 && err == nil {
		h.warnPublic(ctx, r, t, records, keep)
	}
	return n, err
}

// thereIn are the blobs that a place is known to have: those of the image, if it was pushed there.
func (r *BuildResult) thereIn(p *remote.Place) (blobs []digest.Digest) {
	for _, n := range r.images.pushed {
		if n.ref.Domain != p.Repository.Domain || n.ref.Path != p.Repository.Path {
			continue
		}
		for _, d := range n.blobs {
			blobs = append(blobs, d.Digest)
		}
	}
	return blobs
}

// pushedBlobs are what an image names that was pushed under a name.
type pushedBlobs struct {
	ref   image.Reference
	blobs []ocispec.Descriptor
}
