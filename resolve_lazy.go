package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

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

// lend reads an image in a registry and has the store use its layers without fetching them. Of the image only manifest and configuration are in
// the store, for as long as this process. It returns in whole why the image has to be pulled, if it has to be.
func (h *Home) lend(ctx context.Context, o RunOptions, p ocispec.Platform, events event.Sink) (_ *image.Image, whole, err error) {
	repo, d, err := (&RemoteOptions{Insecure: o.Insecure, Events: events}).client().Search(ctx, o.Image)
	if registry.NamesImage(err) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.Image, err)
	}
	img, err := image.Read(ctx, repo, d, &p)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.Image, err)
	}
	snapshots, err := h.Snapshots()
	if err != nil {
		return nil, nil, err
	}
	away, whole, err := h.lendable(ctx, img)
	if whole != nil || err != nil {
		return nil, whole, err
	}
	var all errgroup.Group
	for _, l := range away {
		all.Go(func() error { return lendLayer(ctx, snapshots, repo, l, events) })
	}
	if err := all.Wait(); err != nil {
		return nil, err, nil
	}
	for _, d := range []ocispec.Descriptor{img.Descriptor, img.Manifest.Config} {
		raw, err := image.ReadSmall(ctx, repo, d)
		if err != nil {
			return nil, nil, err
		}
		if _, err := h.Layout.Push(ctx, d, image.Bytes(raw)); err != nil {
			return nil, nil, err
		}
	}
	return img, nil, nil
}

// lendable are the layers of an image that are not here. It returns in whole why they cannot be used where they are.
func (h *Home) lendable(ctx context.Context, img *image.Image) (away []image.Layer, whole, err error) {
	for i, l := range img.Layers() {
		here, err := h.Layout.HaveLayer(ctx, l)
		if err != nil {
			return nil, nil, err
		}
		if here {
			continue
		}
		l.Blob.Annotations = img.Manifest.Layers[i].Annotations
		if image.TOC(l.Blob) == "" {
			return nil, fmt.Errorf("layer %s is no eStargz (forge push --compression estargz)", l.Blob.Digest), nil
		}
		away = append(away, l)
	}
	return away, nil, nil
}

func lendLayer(ctx context.Context, snapshots *snapshot.Store, repo *registry.Repository, l image.Layer, events event.Sink) error {
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
	layer, err := lazy.Open(context.WithoutCancel(ctx), l.Blob.Size, image.TOC(l.Blob), fetch, file, failed)
	if err == nil {
		err = snapshots.Lend(l, layer)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", l.Blob.Digest, errors.Join(err, file.Close()))
	}
	return nil
}
