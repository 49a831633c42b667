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
func (l *Layout) identify(ctx context.Context, n Named, had map[string]bool) (digest.Digest, error) {
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
	return l.wholeBut(ctx, d, map[string]bool{})
}

// wholeBut is whole, but for manifests that had says to be whole, by media type and digest: an index may name one many times. It
// adds to them.
func (l *Layout) wholeBut(ctx context.Context, d ocispec.Descriptor, had map[string]bool) (digest.Digest, error) {
	doc, _, err := ReadDocument(ctx, l, d)
	if err != nil {
		return "", err
	}
	if !doc.IsIndex() {
		return l.wholeManifest(ctx, d, doc)
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
		if had[key] {
			continue
		}
		doc, _, err := ReadDocument(ctx, l, child)
		if err != nil {
			return "", err
		}
		if _, err := l.wholeManifest(ctx, child, doc); err != nil {
			return "", err
		}
		had[key] = true
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

func (l *Layout) wholeManifest(ctx context.Context, d ocispec.Descriptor, doc *Document) (digest.Digest, error) {
	img, err := readImage(ctx, l, d, doc)
	if err != nil {
		return "", err
	}
	for _, layer := range img.Manifest.Layers {
		if ok, err := l.Has(layer); err != nil {
			return "", err
		} else if !ok {
			return "", notFound("layer", layer.Digest)
		}
	}
	return img.ID(), nil
}
