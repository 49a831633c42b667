package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A reach is the set of blobs that can be reached from some descriptors: by an index's manifests, what is attached to a
// manifest, its configuration and layers, and a configuration's diffIDs. Blobs that are not here are part of it as well.
type reach struct {
	layout    *Layout
	blobs     map[digest.Digest]bool
	documents map[digest.Digest]bool // those of the blobs that were read: others may name one as something else
	layers    []Layer                // of images, not of other manifests
	configs   configs                // of those images

	intact  map[digest.Digest]bool // blobs that hold what their digests say
	refuted map[claim]bool         // what blobs were said to be and are not
}

// A claim is what somebody says of a blob.
type claim struct {
	digest    digest.Digest
	mediaType string
}

func newReach(l *Layout) *reach {
	return &reach{
		layout: l, blobs: map[digest.Digest]bool{}, documents: map[digest.Digest]bool{}, configs: configs{},
		intact: map[digest.Digest]bool{}, refuted: map[claim]bool{},
	}
}

// configs are the diffIDs of configurations that were read: thousands of manifests may have one, of 4 MiB.
type configs map[configKey][]digest.Digest

type configKey struct {
	digest digest.Digest
	size   int64
}

// diffIDs are those of a manifest's layers, as its configuration says.
func (c configs) diffIDs(ctx context.Context, src Fetcher, m ocispec.Manifest) ([]digest.Digest, error) {
	key := configKey{m.Config.Digest, m.Config.Size}
	if known, ok := c[key]; ok && len(known) == len(m.Layers) {
		return known, nil
	}
	raw, err := ReadSmall(ctx, src, m.Config)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	config, err := ParseConfig(raw, m)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	c[key] = config.RootFS.DiffIDs
	return config.RootFS.DiffIDs, nil
}

// from adds what d reaches. If d is damaged, not here, or no image, that is an error: nobody can tell what it reaches. What is named
// below it may not be here, or be something else than is said of it: then it reaches nothing. Only if it is damaged it is an error, too.
func (r *reach) from(ctx context.Context, d ocispec.Descriptor) error {
	open, err := r.document(ctx, d, func(_ context.Context, _ ocispec.Descriptor, err error) error { return err })
	for len(open) > 0 && err == nil {
		last := len(open) - 1
		d, open = open[last], open[:last]
		if r.settled(d) {
			continue
		}
		var named []ocispec.Descriptor
		named, err = r.document(ctx, d, r.judge)
		open = append(open, named...)
	}
	return err
}

// settled reports whether it is known that a blob is not what is said of it: an index may say so many times.
func (r *reach) settled(d ocispec.Descriptor) bool {
	if r.refuted[claim{d.Digest, d.MediaType}] {
		return true
	}
	size, err := r.layout.blobSize(d.Digest)
	return err == nil && size != d.Size && r.intact[d.Digest]
}

// A judge says whether an error of what a blob was said to be is one of the reach.
type judge func(ctx context.Context, d ocispec.Descriptor, err error) error

// document adds what a manifest or an index names, and returns what of that may be manifests and indexes.
func (r *reach) document(ctx context.Context, d ocispec.Descriptor, judge judge) (named []ocispec.Descriptor, err error) {
	if r.documents[d.Digest] {
		return nil, nil
	}
	if err := CheckDescriptor(d); err != nil {
		return nil, err
	}
	r.blobs[d.Digest] = true
	doc, _, err := ReadDocument(ctx, r.layout, d)
	if err != nil {
		return nil, judge(ctx, d, err)
	}
	r.documents[d.Digest] = true
	about, err := r.layout.Referrers(d.Digest)
	if err != nil {
		return nil, err
	}
	for _, child := range slices.Concat(doc.Manifests, about) {
		r.blobs[child.Digest] = true // an index may name anything
		if child.MediaType == "" || IsDocument(child.MediaType) {
			named = append(named, child)
		}
	}
	if doc.IsIndex() {
		return named, nil
	}
	for _, blob := range doc.Children() {
		r.blobs[blob.Digest] = true
	}
	return named, r.tars(ctx, doc, judge)
}

// judge lets pass what is not here, as an index names more than has been pulled, and what holds what its digest says, so that who names it as
// something that it is not says nothing of it.
func (r *reach) judge(ctx context.Context, d ocispec.Descriptor, err error) error {
	size, statErr := r.layout.blobSize(d.Digest)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(statErr, fs.ErrNotExist):
		return nil
	case statErr != nil:
		return statErr
	case size <= MaxManifestSize && !r.intact[d.Digest] && r.layout.hash(ctx, d.Digest) != nil: // what is larger is no document, damaged or not
		return err
	}
	r.intact[d.Digest] = true
	if size == d.Size {
		r.refuted[claim{d.Digest, d.MediaType}] = true
	}
	return nil
}

// tars adds the uncompressed forms of an image's layers.
func (r *reach) tars(ctx context.Context, doc *Document, judge judge) error {
	m, err := doc.Manifest()
	if err != nil {
		return nil // an attestation or another artifact
	}
	diffIDs, err := r.configs.diffIDs(ctx, r.layout, m)
	if err != nil {
		return judge(ctx, m.Config, err)
	}
	for i, diffID := range diffIDs {
		r.blobs[diffID] = true
		r.layers = append(r.layers, Layer{m.Layers[i], diffID})
	}
	return nil
}
