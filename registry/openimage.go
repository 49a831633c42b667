package registry

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// OpenImage reads the manifest and the configuration of an image in an OCI layout, and no layer. Of an index it is the
// image for platform p, nil being this machine's. What it returns fetches the layers.
func OpenImage(ctx context.Context, e Endpoint, p *ocispec.Platform) (*image.Image, Fetcher, error) {
	if e.Kind != "oci" {
		return nil, nil, fmt.Errorf("%s: is not a layout", e)
	}
	in, err := readDir(e)
	if err != nil {
		return nil, nil, err
	}
	img, err := image.Read(ctx, in.Fetcher, in.root, p)
	return img, in.Fetcher, err
}
