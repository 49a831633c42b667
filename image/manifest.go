package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's image format version 2, which are read and not written.
const (
	mediaTypeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	mediaTypeDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	mediaTypeDockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	mediaTypeSchema1        = "application/vnd.docker.distribution.manifest.v1+"
)

// Limits for what comes from outside.
const (
	MaxManifestSize = 4 << 20 // bytes of a manifest, an index or a configuration
	MaxLayers       = 500
	maxReferences   = 10_000 // descriptors in an index
	maxIndexDepth   = 4
)

// IsIndex tells whether a media type is an index of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == mediaTypeDockerIndex
}

// IsManifest tells whether a media type is an image manifest.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == mediaTypeDockerManifest
}

// IsLayer tells whether a media type is a layer that can be read: a tar, perhaps compressed, of OCI or Docker.
func IsLayer(mediaType string) bool {
	for _, base := range []string{
		ocispec.MediaTypeImageLayer, mediaTypeDockerLayer, mediaTypeDockerForeign,
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
	} {
		if rest, ok := strings.CutPrefix(mediaType, base); ok {
			return rest == "" || rest == "+gzip" || rest == ".gzip" || rest == "+zstd" || rest == ".zstd"
		}
	}
	return false
}

// IsForeign tells whether a layer of this media type is to be fetched from elsewhere than the registry, and not to be
// pushed.
func IsForeign(mediaType string) bool {
	return strings.HasPrefix(mediaType, mediaTypeDockerForeign) || strings.Contains(mediaType, ".nondistributable.")
}

// readSmall reads a whole blob of at most [MaxManifestSize] bytes and verifies it.
func (l *Layout) readSmall(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > MaxManifestSize {
		return nil, fmt.Errorf("%s: %d bytes are more than the %d that a document may have", d.Digest, d.Size, MaxManifestSize)
	}
	r, err := l.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, 0, d.Size+1) // one more, so that the end is read without growing
	for {
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// ParseManifest reads an image manifest that has the media type mediaType ("" if it is not known) by what it came with.
func ParseManifest(data []byte, mediaType string) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := parseDocument(data, mediaType, &m); err != nil {
		return m, err
	}
	switch {
	case m.MediaType != "" && !IsManifest(m.MediaType):
		return m, fmt.Errorf("%q is not the media type of an image manifest", clip(m.MediaType))
	case m.Config.MediaType != ocispec.MediaTypeImageConfig && m.Config.MediaType != mediaTypeDockerConfig:
		return m, fmt.Errorf("configuration of type %q is not an image's", clip(m.Config.MediaType))
	case len(m.Layers) > MaxLayers:
		return m, fmt.Errorf("has %d layers, more than %d", len(m.Layers), MaxLayers)
	}
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := checkDescriptor(d); err != nil {
			return m, err
		}
	}
	for _, d := range m.Layers {
		if !IsLayer(d.MediaType) {
			return m, fmt.Errorf("layer %s has unknown media type %q", d.Digest, clip(d.MediaType))
		}
	}
	return m, nil
}

// ParseIndex reads an index of manifests that has the media type mediaType ("" if it is not known).
func ParseIndex(data []byte, mediaType string) (ocispec.Index, error) {
	var x ocispec.Index
	if err := parseDocument(data, mediaType, &x); err != nil {
		return x, err
	}
	switch {
	case x.MediaType != "" && !IsIndex(x.MediaType):
		return x, fmt.Errorf("%q is not the media type of an index", clip(x.MediaType))
	case len(x.Manifests) > maxReferences:
		return x, fmt.Errorf("has %d manifests, more than %d", len(x.Manifests), maxReferences)
	}
	for _, d := range x.Manifests {
		if err := checkDescriptor(d); err != nil {
			return x, err
		}
	}
	return x, nil
}

// parseDocument decodes a manifest or an index, and refuses one that could be taken for both.
func parseDocument(data []byte, mediaType string, into any) error {
	if len(data) > MaxManifestSize {
		return fmt.Errorf("%d bytes are more than the %d that a document may have", len(data), MaxManifestSize)
	}
	var shape struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Layers        json.RawMessage `json:"layers"`
		Config        json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(data, &shape); err != nil {
		return err
	}
	_, isManifest := into.(*ocispec.Manifest)
	switch {
	case shape.SchemaVersion == 1 || strings.HasPrefix(mediaType, mediaTypeSchema1):
		return errors.New("is in Docker's schema 1, which is obsolete and not supported: push it again with a current tool")
	case shape.SchemaVersion != 2:
		return fmt.Errorf("schema version %d is not supported", shape.SchemaVersion)
	case mediaType != "" && shape.MediaType != "" && mediaType != shape.MediaType:
		return fmt.Errorf("says to be %q and came as %q", clip(shape.MediaType), clip(mediaType))
	case shape.Manifests != nil && (shape.Layers != nil || shape.Config != nil):
		return errors.New("has both layers and manifests")
	case isManifest && shape.Config == nil:
		return errors.New("has no configuration")
	case !isManifest && shape.Manifests == nil:
		return errors.New("has no manifests")
	}
	return json.Unmarshal(data, into)
}

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
	d, raw, err := l.manifest(ctx, d, p, 0)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(raw, d.MediaType)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	config, err := l.readSmall(ctx, m.Config)
	if err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", d.Digest, err)
	}
	c, err := ParseConfig(config, m)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	if d.MediaType == "" {
		d.MediaType = ocispec.MediaTypeImageManifest
	}
	return &Image{Descriptor: d, Manifest: m, Config: c, RawConfig: config}, nil
}

// manifest follows indexes down to the manifest for p.
func (l *Layout) manifest(ctx context.Context, d ocispec.Descriptor, p *ocispec.Platform, depth int) (ocispec.Descriptor, []byte, error) {
	raw, err := l.readSmall(ctx, d)
	if err != nil {
		return d, nil, fmt.Errorf("manifest: %w", err)
	}
	if !IsIndex(d.MediaType) && (d.MediaType != "" || !looksLikeIndex(raw)) {
		return d, raw, nil
	}
	if depth == maxIndexDepth {
		return d, nil, fmt.Errorf("index %s: more than %d indexes within each other", d.Digest, maxIndexDepth)
	}
	x, err := ParseIndex(raw, d.MediaType)
	if err != nil {
		return d, nil, fmt.Errorf("index %s: %w", d.Digest, err)
	}
	next, err := SelectPlatform(x, p)
	if err != nil {
		return d, nil, fmt.Errorf("index %s: %w", d.Digest, err)
	}
	return l.manifest(ctx, next, p, depth+1)
}

func looksLikeIndex(raw []byte) bool {
	var shape struct {
		Manifests json.RawMessage `json:"manifests"`
	}
	return json.Unmarshal(raw, &shape) == nil && shape.Manifests != nil
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

// ociLayerType is OCI's name for a layer's media type: an OCI manifest may not name Docker's.
func ociLayerType(mediaType string) string {
	for _, pair := range [][2]string{
		{mediaTypeDockerLayer, ocispec.MediaTypeImageLayer},
		{mediaTypeDockerForeign, "application/vnd.oci.image.layer.nondistributable.v1.tar"},
	} {
		if rest, ok := strings.CutPrefix(mediaType, pair[0]); ok {
			return pair[1] + strings.Replace(rest, ".", "+", 1)
		}
	}
	return mediaType
}
