package registry

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Remote is what a registry says of an image, without its layers.
type Remote struct {
	Name       image.Reference
	Descriptor ocispec.Descriptor // what the name stands for: a manifest or an index
	Raw        []byte             // that, byte for byte
	Index      *ocispec.Index     // nil if it is a manifest
	Image      *image.Image       // of the platform that was asked for
}

// InspectRemote asks what a name stands for, and reads the manifest and the configuration of its image for platform p, nil
// being this machine's.
func InspectRemote(ctx context.Context, repo *Repository, ref image.Reference, p *ocispec.Platform) (*Remote, error) {
	d, err := repo.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	r := &Remote{Name: ref, Descriptor: d}
	if r.Raw, err = repo.manifest(ctx, d); err != nil {
		return nil, err
	}
	if image.IsIndex(d.MediaType) {
		x, err := image.ParseIndex(r.Raw, d.MediaType)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		r.Index = &x
	}
	if r.Image, err = repo.Image(ctx, d, p); err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return r, nil
}

// Image reads the manifest d (or, of an index, the one for platform p, nil being this machine's) and its configuration, and
// no layer.
func (r *Repository) Image(ctx context.Context, d ocispec.Descriptor, p *ocispec.Platform) (*image.Image, error) {
	return image.Read(ctx, r, d, p)
}
