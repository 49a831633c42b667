package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A reach is the set of blobs that can be reached from some descriptors: by an index's manifests, a manifest's
// configuration and layers, and a configuration's diffIDs. Blobs that are not here are part of it as well.
type reach struct {
	layout *Layout
	blobs  map[digest.Digest]bool
	layers []Layer // of images, not of other manifests
}

func newReach(l *Layout) *reach { return &reach{layout: l, blobs: map[digest.Digest]bool{}} }

// document is all that can refer to something in a manifest, an index, or the like.
type document struct {
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
	Blobs     []ocispec.Descriptor `json:"blobs"`
}

// from adds what d reaches. A document that is damaged, or not here where it has to be, is an error: nobody can tell
// what it reaches.
func (r *reach) from(ctx context.Context, d ocispec.Descriptor) error { return r.walk(ctx, d, 0) }

func (r *reach) walk(ctx context.Context, d ocispec.Descriptor, depth int) error {
	if r.blobs[d.Digest] {
		return nil
	}
	if err := checkDescriptor(d); err != nil {
		return err
	}
	if depth > maxIndexDepth+1 {
		return fmt.Errorf("%s: indexes lie too deep within each other", d.Digest)
	}
	raw, err := r.layout.readSmall(ctx, d)
	if depth > 0 && errors.Is(err, fs.ErrNotExist) {
		r.blobs[d.Digest] = true // an index names more than has been pulled
		return nil
	}
	if err != nil {
		return err
	}
	var doc document
	if err := json.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	r.blobs[d.Digest] = true
	if len(doc.Manifests) > maxReferences {
		return fmt.Errorf("%s: has %d manifests, more than %d", d.Digest, len(doc.Manifests), maxReferences)
	}
	for _, child := range doc.Manifests {
		if err := r.walk(ctx, child, depth+1); err != nil {
			return err
		}
	}
	for _, blob := range append(doc.Layers, doc.Blobs...) {
		r.blobs[blob.Digest] = true
	}
	if doc.Config == nil {
		return nil
	}
	r.blobs[doc.Config.Digest] = true
	return r.tars(ctx, d, raw)
}

// tars adds the uncompressed forms of an image's layers.
func (r *reach) tars(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	m, err := ParseManifest(raw, d.MediaType)
	if err != nil {
		return nil // an attestation or another artifact
	}
	config, err := r.layout.readSmall(ctx, m.Config)
	if err != nil {
		return err
	}
	c, err := ParseConfig(config, m)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Config.Digest, err)
	}
	for i, diffID := range c.RootFS.DiffIDs {
		r.blobs[diffID] = true
		r.layers = append(r.layers, Layer{m.Layers[i], diffID})
	}
	return nil
}
