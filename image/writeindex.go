package image

import (
	"context"
	"encoding/json"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// NewIndex makes an index of manifests, each of which names its platform, and its descriptor.
func NewIndex(manifests []ocispec.Descriptor, annotations map[string]string) ([]byte, ocispec.Descriptor, error) {
	if manifests == nil {
		manifests = []ocispec.Descriptor{} // an empty list in JSON, not null
	}
	raw, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: manifests, Annotations: annotations,
	})
	return raw, Describe(ocispec.MediaTypeImageIndex, raw), err
}

// WriteIndex stores an index of manifests and returns its descriptor.
func (l *Layout) WriteIndex(ctx context.Context, manifests []ocispec.Descriptor, annotations map[string]string) (ocispec.Descriptor, error) {
	raw, d, err := NewIndex(manifests, annotations)
	if err != nil {
		return d, err
	}
	return l.Push(ctx, d, Bytes(raw))
}
