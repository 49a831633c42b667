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
}

func newReach(l *Layout) *reach {
	return &reach{layout: l, blobs: map[digest.Digest]bool{}, documents: map[digest.Digest]bool{}, configs: configs{}}
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

// from adds what d reaches. A document that is damaged, or not here where it has to be, is an error: nobody can tell
// what it reaches.
func (r *reach) from(ctx context.Context, d ocispec.Descriptor) error { return r.walk(ctx, d, 0) }

func (r *reach) walk(ctx context.Context, d ocispec.Descriptor, depth int) error {
	if r.documents[d.Digest] {
		return nil
	}
	if err := CheckDescriptor(d); err != nil {
		return err
	}
	if depth > 0 && d.MediaType != "" && !IsDocument(d.MediaType) {
		r.blobs[d.Digest] = true // an index may name anything
		return nil
	}
	if depth > MaxIndexDepth+1 {
		return fmt.Errorf("%s: more than %d indexes within each other", d.Digest, MaxIndexDepth)
	}
	doc, _, err := ReadDocument(ctx, r.layout, d)
	if depth > 0 && errors.Is(err, fs.ErrNotExist) {
		r.blobs[d.Digest] = true // an index names more than has been pulled
		return nil
	}
	if err != nil {
		return err
	}
	r.blobs[d.Digest], r.documents[d.Digest] = true, true
	about, err := r.layout.Referrers(d.Digest)
	if err != nil {
		return err
	}
	for _, child := range slices.Concat(doc.Manifests, about) {
		if err := r.walk(ctx, child, depth+1); err != nil {
			return err
		}
	}
	if doc.IsIndex() {
		return nil
	}
	for _, blob := range doc.Children() {
		r.blobs[blob.Digest] = true
	}
	return r.tars(ctx, doc)
}

// tars adds the uncompressed forms of an image's layers.
func (r *reach) tars(ctx context.Context, doc *Document) error {
	m, err := doc.Manifest()
	if err != nil {
		return nil // an attestation or another artifact
	}
	diffIDs, err := r.configs.diffIDs(ctx, r.layout, m)
	if err != nil {
		return err
	}
	for i, diffID := range diffIDs {
		r.blobs[diffID] = true
		r.layers = append(r.layers, Layer{m.Layers[i], diffID})
	}
	return nil
}
