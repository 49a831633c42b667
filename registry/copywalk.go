package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

// A node is a manifest or an index to be copied.
type node struct {
	d        ocispec.Descriptor // in the source; of a part of an index, with what that says of it
	raw      []byte
	doc      *image.Document
	children []*node     // of an index: those that are copied
	layers   []*blobCopy // of a manifest
}

// walk finds all that d needs.
func (c *copier) walk(ctx context.Context, d ocispec.Descriptor, depth int) (*node, error) {
	if depth > image.MaxIndexDepth {
		return nil, fmt.Errorf("%s: more than %d indexes within each other", d.Digest, image.MaxIndexDepth)
	}
	doc, raw, err := image.ReadDocument(ctx, c.src, d)
	if err != nil {
		return nil, err
	}
	d.MediaType = doc.MediaType
	n := &node{d: d, raw: raw, doc: doc}
	if c.bytes += int64(len(raw)); c.bytes > maxManifests {
		return nil, fmt.Errorf("%s: its manifests are longer than 64 MiB", d.Digest)
	}
	if doc.IsIndex() {
		return n, c.walkIndex(ctx, n, depth)
	}
	if err := c.walkManifest(ctx, n); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	return n, nil
}

// walkIndex follows the images that are wanted.
func (c *copier) walkIndex(ctx context.Context, n *node, depth int) error {
	chosen, err := c.choose(n)
	if err != nil {
		return err
	}
	for _, d := range chosen {
		if len(c.noted) > maxReferences {
			return fmt.Errorf("%s: names more than %d things", n.d.Digest, maxReferences)
		}
		child, err := c.walk(ctx, d, depth+1)
		if errors.Is(err, fs.ErrNotExist) && c.opts.Index == HeldImages && c.opts.Platforms == nil {
			continue
		}
		if err != nil {
			return err
		}
		n.children = append(n.children, child)
	}
	if len(n.children) == 0 && len(n.doc.Manifests) > 0 {
		return fmt.Errorf("index %s: none of its images is here: %w", n.d.Digest, fs.ErrNotExist)
	}
	return nil
}

// choose lists the images of an index that are wanted.
func (c *copier) choose(n *node) ([]ocispec.Descriptor, error) {
	if c.opts.Platforms == nil {
		return n.doc.Manifests, nil
	}
	x, err := n.doc.Index()
	if err != nil {
		return nil, err
	}
	var chosen []ocispec.Descriptor
	had := map[digest.Digest]bool{}
	for i := range c.opts.Platforms {
		one, err := image.SelectPlatform(x, &c.opts.Platforms[i])
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", n.d.Digest, err)
		}
		if !had[one.Digest] {
			had[one.Digest] = true
			chosen = append(chosen, one)
		}
	}
	return chosen, nil
}

// walkManifest notes the blobs of an image or of another artifact.
func (c *copier) walkManifest(ctx context.Context, n *node) error {
	for _, l := range n.doc.Layers {
		if image.IsForeign(l.MediaType) {
			return fmt.Errorf("layer %s %w", l.Digest, errForeign)
		}
	}
	var raw []byte
	var diffIDs []digest.Digest
	if c.needsConfig() && image.IsConfig(n.doc.Config.MediaType) && len(n.doc.Layers) > 0 {
		var err error
		if raw, diffIDs, err = c.readConfig(ctx, n.doc); err != nil {
			return err
		}
	}
	config, err := c.note(n.doc.Config, "")
	if err != nil {
		return err
	}
	config.raw, config.names = raw, diffIDs
	for i, l := range n.doc.Layers {
		var diffID digest.Digest
		if diffIDs != nil && isLayer(l.MediaType) {
			diffID = diffIDs[i]
		}
		b, err := c.note(l, diffID)
		if err != nil {
			return err
		}
		n.layers = append(n.layers, b)
	}
	return nil
}

// needsConfig reports whether layers are handled by their diffIDs.
func (c *copier) needsConfig() bool { return c.opts.PushLayer != nil || c.opts.Forms != nil }

// note has a blob copied, once. If it is a layer, diffID says what it holds, and a blob holds one thing.
func (c *copier) note(d ocispec.Descriptor, diffID digest.Digest) (*blobCopy, error) {
	b := c.noted[d.Digest]
	if known := b != nil; known && (diffID == "" || b.layer.DiffID == diffID) {
		return b, nil
	} else if known && (b.raw != nil || b.layer.DiffID != "") {
		return nil, fmt.Errorf("layer %s is to hold %s, and something else", d.Digest, diffID)
	} else if !known {
		b = &blobCopy{d: d, to: d}
		c.noted[d.Digest] = b
		c.blobs = append(c.blobs, b)
	}
	if diffID != "" {
		b.layer = image.Layer{Blob: d, DiffID: diffID}
		b.to = c.opts.Forms.form(b.layer)
	}
	if b.to.Digest != "" {
		c.report(b.to, event.Waiting, 0)
	}
	return b, nil
}

// readConfig reads a configuration, once: from the destination if it has it, so that of many processes one downloads it.
func (c *copier) readConfig(ctx context.Context, doc *image.Document) ([]byte, []digest.Digest, error) {
	if b := c.noted[doc.Config.Digest]; b != nil && b.raw != nil && b.d.Size == doc.Config.Size && len(b.names) == len(doc.Layers) {
		return b.raw, b.names, nil
	}
	drop, err := c.awaitClaim(ctx, doc.Config)
	if err != nil {
		return nil, nil, err
	}
	raw, err := c.configBytes(ctx, doc.Config)
	if err = errors.Join(err, drop()); err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	conf, err := image.ParseConfig(raw, ocispec.Manifest{Config: doc.Config, Layers: doc.Layers})
	if err != nil {
		return nil, nil, fmt.Errorf("configuration %s: %w", doc.Config.Digest, err)
	}
	return raw, conf.RootFS.DiffIDs, nil
}

func (c *copier) configBytes(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if c.opts.Partial == nil {
		return image.ReadSmall(ctx, c.src, d)
	}
	have, err := c.dst.Exists(ctx, d)
	if err != nil {
		return nil, err
	}
	if have {
		return image.ReadSmall(ctx, c.dst, d)
	}
	raw, err := image.ReadSmall(ctx, c.src, d)
	if err != nil {
		return nil, err
	}
	// Others wait for it: it has to be visible before the claim is given up.
	if _, err := c.dst.Push(ctx, d, image.Bytes(raw)); err != nil {
		return nil, err
	}
	return raw, c.publish(ctx)
}

// manifests lists what the destination gets for n, after its blobs: all manifests with their bytes as Data, each once and after
// what it names, and last the one that stands for n.
func (c *copier) manifests(n *node) (ocispec.Descriptor, []ocispec.Descriptor, error) {
	var all []ocispec.Descriptor
	d, err := c.finish(n, func(m ocispec.Descriptor) {
		if !slices.ContainsFunc(all, func(other ocispec.Descriptor) bool { return other.Digest == m.Digest }) {
			all = append(all, m)
		}
	})
	return d, all, err
}

// finish makes the manifest that stands for n.
func (c *copier) finish(n *node, add func(ocispec.Descriptor)) (ocispec.Descriptor, error) {
	remade := func() ([]byte, ocispec.Descriptor, error) { return c.reindex(n, add) }
	if !n.doc.IsIndex() {
		remade = n.repack
	}
	raw, d, err := remade()
	if err != nil || raw == nil {
		return d, err
	}
	add(ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform, Data: raw})
	return d, nil
}

// repack is the manifest of an image with its layers as they were sent.
func (n *node) repack() ([]byte, ocispec.Descriptor, error) {
	same := true
	layers := make([]ocispec.Descriptor, len(n.layers))
	for i, b := range n.layers {
		same = same && b.to.Digest == b.d.Digest
		layers[i] = b.to
		layers[i].Annotations = n.doc.Layers[i].Annotations
	}
	if same {
		return n.raw, n.d, nil
	}
	m, err := n.doc.Manifest()
	if err != nil {
		return nil, n.d, err
	}
	raw, d, err := image.Repack(m, layers)
	d.Platform, d.Annotations = n.d.Platform, n.d.Annotations
	return raw, d, err
}

// reindex is the index of the images that were copied. It is nil if one of them stands for it.
func (c *copier) reindex(n *node, add func(ocispec.Descriptor)) ([]byte, ocispec.Descriptor, error) {
	same := len(n.children) == len(n.doc.Manifests)
	var parts []ocispec.Descriptor
	for _, child := range n.children {
		d, err := c.finish(child, add)
		if err != nil {
			return nil, d, err
		}
		same = same && d.Digest == child.d.Digest
		d.Platform, d.Annotations = child.d.Platform, child.d.Annotations
		parts = append(parts, d)
	}
	switch {
	case same || c.opts.Index == WholeIndex:
		return n.raw, n.d, nil
	case len(parts) == 1 && len(n.doc.Manifests) > 1:
		return nil, parts[0], nil
	}
	raw, d, err := image.NewIndex(parts, n.doc.Annotations)
	d.Platform, d.Annotations = n.d.Platform, n.d.Annotations
	return raw, d, err
}
