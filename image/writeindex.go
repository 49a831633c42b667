package image

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteIndex stores an index of manifests, each of which names its platform, and returns its descriptor.
func (l *Layout) WriteIndex(ctx context.Context, manifests []ocispec.Descriptor, annotations map[string]string) (ocispec.Descriptor, error) {
	data, err := json.Marshal(ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageIndex,
		Manifests:   manifests,
		Annotations: annotations,
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := Describe(ocispec.MediaTypeImageIndex, data)
	return d, l.Push(ctx, d, bytes.NewReader(data))
}
