package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Prove makes sure that blobs of layers hold the tars of their diffIDs, where both are here: an image may name any blob that is here beside the
// diffID of another image's layer, and would get the files of that. What images of the store name was proven when they came; other blobs are
// inflated. Of a layer of which the blob or the tar is not here it says nothing: who brings it inflates the blob.
func (l *Layout) Prove(ctx context.Context, layers []Layer) error {
	var open []Layer
	for _, layer := range layers {
		if layer.Blob.Digest == layer.DiffID || l.isProven(layer) {
			continue
		}
		blob, err := l.Has(layer.Blob)
		if err != nil {
			return err
		}
		tar, err := l.Exists(ctx, ocispec.Descriptor{Digest: layer.DiffID})
		if err != nil {
			return err
		}
		if blob && tar {
			open = append(open, layer)
		}
	}
	if len(open) == 0 {
		return nil
	}
	known, err := l.pairs(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, layer := range open {
		if slices.Contains(known[layer.Blob.Digest], layer.DiffID) {
			l.noteProven(layer)
			continue
		}
		g.Go(func() error {
			if err := l.inflatesTo(ctx, layer); err != nil {
				return fmt.Errorf("layer %s: %w", layer.Blob.Digest, err)
			}
			l.noteProven(layer)
			return nil
		})
	}
	return g.Wait()
}

// noteProven remembers that the blob of a layer holds the tar of its diffID: each step of a build asks for all layers below it.
func (l *Layout) noteProven(layer Layer) {
	l.proven.Store([2]digest.Digest{layer.Blob.Digest, layer.DiffID}, true)
}

func (l *Layout) isProven(layer Layer) bool {
	_, ok := l.proven.Load([2]digest.Digest{layer.Blob.Digest, layer.DiffID})
	return ok
}

// pairs are the diffIDs of blobs, as the images of the store name them.
func (l *Layout) pairs(ctx context.Context) (map[digest.Digest][]digest.Digest, error) {
	all, err := l.List(ctx)
	if err != nil {
		return nil, err
	}
	reached := newReach(l)
	for _, n := range all {
		if n.Away { // its layers may never have come
			continue
		}
		_ = reached.from(ctx, n.Descriptor) // what is damaged proves nothing
	}
	pairs := map[digest.Digest][]digest.Digest{}
	for _, layer := range reached.layers {
		pairs[layer.Blob.Digest] = append(pairs[layer.Blob.Digest], layer.DiffID)
	}
	return pairs, nil
}

// inflatesTo reads the blob of a layer, to compare it with the tar.
func (l *Layout) inflatesTo(ctx context.Context, layer Layer) error {
	size, err := l.blobSize(layer.DiffID)
	if err != nil {
		return err
	}
	blob, err := l.OpenBlob(layer.Blob.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	r, err := decompress(bufio.NewReaderSize(blob, bufSize))
	if err != nil {
		return err
	}
	defer r.Close()
	out := &output{ctx: ctx, w: io.Discard, hash: sha256.New()}
	if err := copyAhead(out, io.LimitReader(r, size+1)); err != nil {
		return err
	}
	return out.is(layer.DiffID)
}
