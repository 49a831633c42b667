package image

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ParseConfig reads an image configuration and holds it to its manifest.
func ParseConfig(data []byte, m ocispec.Manifest) (Config, error) {
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return c, err
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return c, fmt.Errorf("names %d layers, its manifest %d", len(c.RootFS.DiffIDs), len(m.Layers))
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := CheckDigest(d); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Image reads the manifest d (or, of an index, the one for platform p, nil being this machine's) and its configuration.
// The layers need not be here. fs.ErrNotExist if the manifest or the configuration is not.
func (l *Layout) Image(ctx context.Context, d ocispec.Descriptor, p *ocispec.Platform) (*Image, error) {
	return Read(ctx, l, d, p)
}

// Write stores configuration and manifest for layers, lowest first, and returns the image; nothing is durable before
// Publish. RootFS is filled in here. The layers need not be here.
func (l *Layout) Write(_ context.Context, c Config, layers []Layer, annotations map[string]string) (*Image, error) {
	if len(layers) > MaxLayers {
		return nil, fmt.Errorf("image has %d layers, more than %d", len(layers), MaxLayers)
	}
	m := newManifest(len(layers), annotations)
	c.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: make([]digest.Digest, len(layers))}
	for i, layer := range layers {
		m.Layers[i], c.RootFS.DiffIDs[i] = layer.Blob, layer.DiffID
		m.Layers[i].MediaType = ociLayerType(layer.Blob.MediaType)
	}
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return l.writeManifest(m, config, c)
}

func newManifest(layers int, annotations map[string]string) ocispec.Manifest {
	return ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageManifest,
		Layers:      make([]ocispec.Descriptor, layers), // never null, which some readers refuse
		Annotations: annotations,
	}
}

// writeManifest stores a configuration, whose bytes name the image, and a manifest for it.
func (l *Layout) writeManifest(m ocispec.Manifest, config []byte, c Config) (_ *Image, err error) {
	if m.Config, err = l.put(ocispec.MediaTypeImageConfig, config); err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	for _, document := range [][]byte{config, manifest} {
		if len(document) > MaxManifestSize {
			return nil, fmt.Errorf("image has a document of %d bytes, more than %d", len(document), MaxManifestSize)
		}
	}
	d, err := l.put(ocispec.MediaTypeImageManifest, manifest)
	if err != nil {
		return nil, err
	}
	return &Image{Descriptor: d, Manifest: m, Config: c, RawConfig: config}, nil
}
