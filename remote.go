package forge

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// RemoteOptions say how registries are asked.
type RemoteOptions struct{}

type farImages struct{}

func (r *resolver) fromRegistry(ctx context.Context, ref image.Reference, p *ocispec.Platform) (*image.Image, error) {
	return nil, &NotFoundError{Name: ref.Familiar()}
}

func (r *resolver) fromLayout(ctx context.Context, dir string, p *ocispec.Platform) (*image.Image, error) {
	return nil, fmt.Errorf("oci-layout://%s: not there yet", dir)
}

// FetchLayers brings layers here.
func (r *resolver) FetchLayers(ctx context.Context, layers []image.Layer) error { return nil }

func (h *Home) imageToRun(ctx context.Context, o RunOptions) (*image.Image, error) {
	return h.Image(ctx, o.Image, o.Platform)
}

func (h *Home) outputRegistry(context.Context, BuildOptions, Output, []image.Reference, *BuildResult) error {
	return fmt.Errorf("push is not there yet")
}
