package image

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// identify returns the ID of an image, and makes sure that all parts of it are here, but for layers that are away, and for what
// had says; see [Layout.wholeBut].
func (l *Layout) identify(ctx context.Context, n Named, had seen) (digest.Digest, error) {
	if !n.Away {
		return l.wholeBut(ctx, n.Descriptor, had)
	}
	img, err := l.AnyImage(ctx, n.Descriptor)
	if err != nil {
		return "", err
	}
	return img.ID(), nil
}

// whole makes sure that all parts of an image are here, sizes right, and returns its ID. Of an index, at least one of
// its images has to be here, and those that are have to be whole.
func (l *Layout) whole(ctx context.Context, d ocispec.Descriptor) (digest.Digest, error) {
	return l.wholeBut(ctx, d, newSeen())
}

// seen is what need not be read again: an index may name one manifest many times, and many manifests one configuration.
type seen struct {
	whole   map[string]bool // manifests, by media type and digest
	configs configs
}

func newSeen() seen { return seen{map[string]bool{}, configs{}} }

// wholeBut is whole, but for what had says was read. It adds to that.
func (l *Layout) wholeBut(ctx context.Context, d ocispec.Descriptor, had seen) (digest.Digest, error) {
	doc, _, err := ReadDocument(ctx, l, d)
	if err != nil {
		return "", err
	}
	if !doc.IsIndex() {
		return l.wholeManifest(ctx, d, doc, had.configs)
	}
	found := false
	for _, child := range doc.Manifests {
		ok, err := l.Has(child)
		if err != nil {
			return "", err
		}
		if !ok || isAttestation(child) || !isManifest(child.MediaType) {
			continue
		}
		found = true
		key := child.MediaType + " " + string(child.Digest)
		if had.whole[key] {
			continue
		}
		doc, _, err := ReadDocument(ctx, l, child)
		if err != nil {
			return "", err
		}
		if _, err := l.wholeManifest(ctx, child, doc, had.configs); err != nil {
			return "", err
		}
		had.whole[key] = true
	}
	if !found {
		return "", fmt.Errorf("index %s: none of its images is in the store: %w", d.Digest, fs.ErrNotExist)
	}
	img, err := l.AnyImage(ctx, d)
	if err != nil {
		return "", fmt.Errorf("index %s: %w", d.Digest, err)
	}
	return img.ID(), nil
}

func (l *Layout) wholeManifest(ctx context.Context, d ocispec.Descriptor, doc *Document, known configs) (digest.Digest, error) {
	m, err := doc.Manifest()
	if err != nil {
		return "", fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if _, err := known.diffIDs(ctx, l, m); err != nil {
		return "", err
	}
	for _, layer := range m.Layers {
		if ok, err := l.Has(layer); err != nil {
			return "", err
		} else if !ok {
			return "", notFound("layer", layer.Digest)
		}
	}
	return m.Config.Digest, nil
}
