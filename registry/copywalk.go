package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

// walk notes what d needs, and returns what will stand for it.
func (c *copier) walk(ctx context.Context, d ocispec.Descriptor, depth int) (ocispec.Descriptor, error) {
	if depth > image.MaxIndexDepth {
		return d, fmt.Errorf("%s: indexes are nested more than %d deep", d.Digest, image.MaxIndexDepth)
	}
	raw, err := image.ReadSmall(ctx, c.src, d)
	if err != nil {
		return d, fmt.Errorf("%s: %w", image.Noun(d.MediaType), err)
	}
	doc, err := image.ParseDocument(raw, d.MediaType)
	if err != nil {
		return d, fmt.Errorf("%s: %w", d.Digest, err)
	}
	if !image.IsIndex(d.MediaType) {
		err = c.walkManifest(ctx, d, doc)
	} else {
		d, raw, err = c.walkIndex(ctx, d, doc, raw, depth)
	}
	if err != nil || raw == nil || c.seen[d.Digest] {
		return d, err
	}
	c.seen[d.Digest] = true
	if c.bytes += int64(len(raw)); c.bytes > maxManifests {
		return d, fmt.Errorf("%s: its manifests are longer than 64 MiB", d.Digest)
	}
	c.manifests = append(c.manifests, manifestCopy{d, raw})
	return d, nil
}

// walkIndex follows the selected images. Its raw is nil if a single one of them stands for the index.
func (c *copier) walkIndex(ctx context.Context, d ocispec.Descriptor, doc *image.Document, raw []byte, depth int) (ocispec.Descriptor, []byte, error) {
	chosen, err := c.choose(d, doc)
	if err != nil {
		return d, nil, err
	}
	for i := range chosen {
		if len(c.seen) > maxReferences {
			return d, nil, fmt.Errorf("%s: names more than %d things", d.Digest, maxReferences)
		}
		got, err := c.walk(ctx, chosen[i], depth+1)
		if err != nil {
			return d, nil, err
		}
		if !c.opts.Sparse {
			got.Platform, got.Annotations = chosen[i].Platform, chosen[i].Annotations
			chosen[i] = got
		}
	}
	switch {
	case c.opts.Platforms == nil || c.opts.Sparse:
		return d, raw, nil
	case len(c.opts.Platforms) == 1:
		return chosen[0], nil, nil
	}
	raw, d, err = image.NewIndex(chosen, doc.Annotations)
	return d, raw, err
}

// choose lists the images of an index that are wanted.
func (c *copier) choose(d ocispec.Descriptor, doc *image.Document) ([]ocispec.Descriptor, error) {
	if c.opts.Platforms == nil {
		return append([]ocispec.Descriptor(nil), doc.Manifests...), nil
	}
	var chosen []ocispec.Descriptor
	had := map[digest.Digest]bool{}
	for i := range c.opts.Platforms {
		one, err := image.SelectPlatform(ocispec.Index{Manifests: doc.Manifests}, &c.opts.Platforms[i])
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", d.Digest, err)
		}
		if !had[one.Digest] {
			had[one.Digest] = true
			chosen = append(chosen, one)
		}
	}
	return chosen, nil
}

// walkManifest notes the blobs of an image or an artifact.
func (c *copier) walkManifest(ctx context.Context, d ocispec.Descriptor, doc *image.Document) error {
	_, sink := c.dst.(LayerSink)
	sink = sink && image.IsConfig(doc.Config.MediaType) && len(doc.Layers) > 0
	config := blobCopy{d: doc.Config}
	var diffIDs []digest.Digest
	if sink {
		var err error
		if config.raw, diffIDs, err = c.readConfig(ctx, doc); err != nil {
			return fmt.Errorf("%s: %w", d.Digest, err)
		}
	}
	c.note(config)
	for i, l := range doc.Layers {
		if image.IsForeign(l.MediaType) {
			return fmt.Errorf("layer %s %w", l.Digest, errForeign)
		}
		if c.opts.NoLayers && isLayer(l.MediaType) {
			continue
		}
		b := blobCopy{d: l}
		if sink && isLayer(l.MediaType) {
			b.diffID = diffIDs[i]
		}
		c.note(b)
	}
	return nil
}

func (c *copier) note(b blobCopy) {
	if c.seen[b.d.Digest] {
		return
	}
	c.seen[b.d.Digest] = true
	c.blobs = append(c.blobs, b)
	c.rep.report(b.d, event.Waiting, 0)
}

// readConfig reads a configuration: from the destination if it has it, so that of many processes one downloads it.
func (c *copier) readConfig(ctx context.Context, doc *image.Document) ([]byte, []digest.Digest, error) {
	d := doc.Config
	release, err := c.awaitClaim(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	raw, err := c.configBytes(ctx, d)
	if err = errors.Join(err, release(true)); err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	conf, err := image.ParseConfig(raw, ocispec.Manifest{Config: d, Layers: doc.Layers})
	if err != nil {
		return nil, nil, fmt.Errorf("configuration %s: %w", d.Digest, err)
	}
	return raw, conf.RootFS.DiffIDs, nil
}

func (c *copier) configBytes(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	have, err := c.dst.Exists(ctx, d)
	if err != nil {
		return nil, err
	}
	if f, ok := c.dst.(Fetcher); ok && have {
		return image.ReadSmall(ctx, f, d)
	}
	raw, err := image.ReadSmall(ctx, c.src, d)
	if err != nil || have || c.opts.Partial == nil {
		return raw, err
	}
	// Others wait for it: it has to be visible before the claim is given up.
	if err := c.dst.Push(ctx, d, bytes.NewReader(raw)); err != nil {
		return nil, err
	}
	return raw, c.publish(ctx)
}
