package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Bounds on what a registry may say.
const (
	maxDocument   = image.MaxManifestSize // bytes of a manifest, an index or a configuration
	maxReferences = 10_000                // descriptors in one walk
	maxDepth      = 4                     // indexes in indexes
	maxLayers     = image.MaxLayers
)

// Media types that OCI's package does not name.
const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	mediaTypeDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	mediaTypeSchema1        = "application/vnd.docker.distribution.manifest.v1+"
)

// acceptManifests is what resolving accepts.
const acceptManifests = ocispec.MediaTypeImageIndex + ", " + ocispec.MediaTypeImageManifest + ", " +
	mediaTypeDockerList + ", " + mediaTypeDockerManifest

var (
	errSchema1 = errors.New("is a manifest of schema 1, which no registry should serve any more; push the image again with a client of this decade")
	errForeign = errors.New("is a foreign layer, kept outside of registries by its vendor, and is not fetched")
)

// isManifest tells whether a media type is a manifest or an index, of OCI's or Docker's kind.
func isManifest(mediaType string) bool {
	return image.IsManifest(mediaType) || image.IsIndex(mediaType)
}

func isConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == mediaTypeDockerConfig
}

// isLayer tells whether a blob is a layer of a file system, compressed or not, that is kept in registries.
func isLayer(mediaType string) bool { return image.IsLayer(mediaType) && !image.IsForeign(mediaType) }

// isTar tells whether a layer is stored without compression.
func isTar(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageLayer || mediaType == mediaTypeDockerLayer
}

// A document is a manifest or an index, of OCI's or Docker's kind.
type document struct {
	SchemaVersion int                   `json:"schemaVersion"`
	MediaType     string                `json:"mediaType"`
	ArtifactType  string                `json:"artifactType"`
	Config        *ocispec.Descriptor   `json:"config"`
	Layers        *[]ocispec.Descriptor `json:"layers"`
	Manifests     *[]ocispec.Descriptor `json:"manifests"`
	Annotations   map[string]string     `json:"annotations"`
	FSLayers      json.RawMessage       `json:"fsLayers"` // schema 1
}

// parseDocument reads a manifest or index that was served or described as mediaType and checks that it is one.
func parseDocument(mediaType string, raw []byte) (*document, error) {
	if strings.HasPrefix(mediaType, mediaTypeSchema1) {
		return nil, errSchema1
	}
	var doc document
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("manifest is not JSON: %w", err)
	}
	switch {
	case doc.SchemaVersion == 1 || doc.FSLayers != nil:
		return nil, errSchema1
	case doc.SchemaVersion != 2:
		return nil, fmt.Errorf("manifest has schema version %d, want 2", doc.SchemaVersion)
	case doc.Manifests != nil && (doc.Layers != nil || doc.Config != nil):
		return nil, errors.New("manifest is an image and an index at once")
	case doc.MediaType != "" && doc.MediaType != mediaType:
		return nil, fmt.Errorf("manifest says that it is %q and was served as %q", clip(doc.MediaType), clip(mediaType))
	case !isManifest(mediaType):
		return nil, fmt.Errorf("manifest of media type %q is not supported", clip(mediaType))
	case image.IsIndex(mediaType) != (doc.Manifests != nil):
		return nil, fmt.Errorf("manifest was served as %q and is none", mediaType)
	case !image.IsIndex(mediaType) && doc.Config == nil:
		return nil, errors.New("manifest names no configuration")
	case len(doc.layers()) > maxLayers:
		return nil, fmt.Errorf("manifest has %d layers, more than %d", len(doc.layers()), maxLayers)
	}
	doc.MediaType = mediaType
	for _, d := range doc.children() {
		if err := checkDescriptor(d); err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
	}
	return &doc, nil
}

// sniff guesses the media type of a manifest that was served without one.
func sniff(raw []byte) string {
	var doc struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	_ = json.Unmarshal(raw, &doc) // which parseDocument reports
	switch {
	case doc.FSLayers != nil:
		return mediaTypeSchema1 + "json"
	case doc.MediaType != "":
		return doc.MediaType
	case doc.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

func (d *document) layers() []ocispec.Descriptor {
	if d.Layers == nil {
		return nil
	}
	return *d.Layers
}

// children are all descriptors that a copy of the document needs: the configuration first, then the layers, or the manifests.
func (d *document) children() []ocispec.Descriptor {
	if d.Manifests != nil {
		return *d.Manifests
	}
	return append([]ocispec.Descriptor{*d.Config}, d.layers()...)
}

func checkDescriptor(d ocispec.Descriptor) error {
	if err := image.CheckDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 || d.Size > image.MaxBlobSize {
		return fmt.Errorf("%s: size %d is out of range", d.Digest, d.Size)
	}
	return nil
}

// readDocument fetches a manifest, an index or a configuration, whole.
func readDocument(ctx context.Context, src Fetcher, d ocispec.Descriptor) (raw []byte, err error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	if d.Size > maxDocument {
		return nil, fmt.Errorf("%s: %d bytes are too many for a %s (limit 4 MiB)", d.Digest, d.Size, noun(d.MediaType))
	}
	r, err := src.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(io.LimitReader(image.Verify(r, d), maxDocument+1))
}

func noun(mediaType string) string {
	switch {
	case image.IsIndex(mediaType):
		return "index"
	case isManifest(mediaType):
		return "manifest"
	case isConfig(mediaType):
		return "configuration"
	case isLayer(mediaType):
		return "layer"
	}
	return "blob"
}

// clip keeps messages short whatever a stranger sent.
func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

// Children lists what the manifest or index of this media type names, after the checks that a registry's manifests go
// through: the configuration and the layers, or the manifests.
func Children(mediaType string, raw []byte) ([]ocispec.Descriptor, error) {
	doc, err := parseDocument(mediaType, raw)
	if err != nil {
		return nil, err
	}
	return doc.children(), nil
}
