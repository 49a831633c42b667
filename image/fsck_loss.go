package image

import (
	"context"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A loss is an image of an index whose manifest was damaged, and is gone. The index is whole all the same, as it is where the image was never pulled.
type loss struct {
	of       Named
	manifest ocispec.Descriptor
}

// losses are those that problems have brought, once for each name.
func (l *Layout) losses(ctx context.Context, problems []Problem) (list []loss) {
	for _, p := range problems {
		if p.kind != damagedBlob {
			continue
		}
		for _, n := range p.Images {
			doc, _, err := ReadDocument(ctx, l, n.Descriptor)
			if err != nil || !doc.IsIndex() {
				continue
			}
			images := doc.Images()
			if i := slices.IndexFunc(images, func(d ocispec.Descriptor) bool { return d.Digest == p.blob }); i >= 0 {
				list = append(list, loss{n, images[i]})
			}
		}
	}
	return list
}

// lost are the manifests that are still not here, each once. The indexes that have lost them get the ID of an image that they still have.
func (l *Layout) lost(ctx context.Context, losses []loss) (gone []Named, err error) {
	for _, lost := range losses {
		if here, err := l.Has(lost.manifest); here || err != nil || !l.Names(lost.of.Reference, lost.of.Descriptor.Digest) {
			continue // its name may stand for the form that its repository has
		}
		if err := l.Reidentify(ctx, lost.of.Descriptor.Digest); err != nil {
			return gone, err
		}
		if !slices.ContainsFunc(gone, func(n Named) bool { return n.Descriptor.Digest == lost.manifest.Digest }) {
			gone = append(gone, Named{Descriptor: lost.manifest})
		}
	}
	return gone, nil
}
