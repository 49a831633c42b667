package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on documents that come from outside.
const (
	MaxManifestSize = 4 << 20 // bytes of a manifest, an index or a configuration
	MaxLayers       = 500     // of a manifest
	MaxReferences   = 10_000  // manifests in an index
	MaxIndexDepth   = 4       // indexes within each other
)

// MaxDockerLayers is how many layers an image may have for docker to load or pull it: maxLayerDepth of moby's layer store.
const MaxDockerLayers = 125

// A Document is a manifest or an index, of OCI or of Docker's image format version 2, that has passed the checks of
// [ParseDocument].
type Document struct {
	MediaType    string // never empty
	ArtifactType string
	Config       ocispec.Descriptor   // of a manifest
	Layers       []ocispec.Descriptor // of a manifest
	Manifests    []ocispec.Descriptor // of an index
	Subject      *ocispec.Descriptor  // not checked
	Annotations  map[string]string
}

// documentJSON is a Document as it is written.
type documentJSON struct {
	SchemaVersion int                 `json:"schemaVersion"`
	MediaType     string              `json:"mediaType"`
	ArtifactType  string              `json:"artifactType"`
	Config        *ocispec.Descriptor `json:"config"`
	Layers        descriptorList      `json:"layers"`
	Manifests     descriptorList      `json:"manifests"`
	Subject       *ocispec.Descriptor `json:"subject"`
	Annotations   map[string]string   `json:"annotations"`
	FSLayers      json.RawMessage     `json:"fsLayers"` // of schema 1
}

// A descriptorList is a JSON list that knows whether it was written at all.
type descriptorList struct {
	present bool
	list    []ocispec.Descriptor
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *descriptorList) UnmarshalJSON(data []byte) error {
	l.present = true
	return json.Unmarshal(data, &l.list)
}

// ParseDocument reads a manifest or an index that was served or described as mediaType, "" if that is not known. It
// refuses documents of schema 1, those that could be taken for both kinds, and those with more or larger parts than the
// limits allow. All descriptors but the subject's can be acted on.
func ParseDocument(data []byte, mediaType string) (*Document, error) {
	if len(data) > MaxManifestSize {
		return nil, fmt.Errorf("has %d bytes, more than the %d that a document may have", len(data), MaxManifestSize)
	}
	var in documentJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("is not a manifest: %w", err)
	}
	if in.SchemaVersion == 1 || in.FSLayers != nil || strings.HasPrefix(mediaType, mediaTypeSchema1) {
		return nil, errors.New("is a manifest of Docker's schema 1, which is obsolete and not supported: push the image again with a current tool")
	}
	said := in.MediaType
	if mediaType == "" {
		mediaType = in.mediaType()
	}
	doc := &Document{
		MediaType: mediaType, ArtifactType: in.ArtifactType, Layers: in.Layers.list, Manifests: in.Manifests.list,
		Subject: in.Subject, Annotations: in.Annotations,
	}
	switch {
	case in.SchemaVersion != 2:
		return nil, fmt.Errorf("schema version %d is not supported", in.SchemaVersion)
	case said != "" && said != mediaType:
		return nil, fmt.Errorf("says that it is %q and came as %q", Clip(said), Clip(mediaType))
	case !isManifest(mediaType) && !IsIndex(mediaType):
		return nil, fmt.Errorf("%q is not the media type of a manifest or an index", Clip(mediaType))
	case in.Manifests.present && (in.Layers.present || in.Config != nil):
		return nil, errors.New("has both layers and manifests")
	case doc.IsIndex() && !in.Manifests.present:
		return nil, errors.New("has no manifests")
	case !doc.IsIndex() && in.Config == nil:
		return nil, errors.New("has no configuration")
	case len(doc.Layers) > MaxLayers:
		return nil, fmt.Errorf("has %d layers, more than %d", len(doc.Layers), MaxLayers)
	case len(doc.Manifests) > MaxReferences:
		return nil, fmt.Errorf("has %d manifests, more than %d", len(doc.Manifests), MaxReferences)
	}
	if in.Config != nil {
		doc.Config = *in.Config
	}
	for _, d := range doc.Children() {
		if err := CheckDescriptor(d); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

// mediaType is what a document is that came without a media type.
func (in *documentJSON) mediaType() string {
	switch {
	case in.MediaType != "":
		return in.MediaType
	case in.Manifests.present:
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// IsIndex reports whether the document is an index.
func (doc *Document) IsIndex() bool { return IsIndex(doc.MediaType) }

// Images are those that an index names, here or not: without attestations.
func (doc *Document) Images() (list []ocispec.Descriptor) {
	for _, d := range doc.Manifests {
		if isManifest(d.MediaType) && !isAttestation(d) {
			list = append(list, d)
		}
	}
	return list
}

// Children are the descriptors of all that a copy of the document needs: the manifests of an index, else the configuration
// and then the layers.
func (doc *Document) Children() []ocispec.Descriptor {
	if doc.IsIndex() {
		return doc.Manifests
	}
	return append([]ocispec.Descriptor{doc.Config}, doc.Layers...)
}

// Manifest is the document as the manifest of an image, which other artifacts are not.
func (doc *Document) Manifest() (ocispec.Manifest, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: doc.MediaType, ArtifactType: doc.ArtifactType,
		Config: doc.Config, Layers: doc.Layers, Subject: doc.Subject, Annotations: doc.Annotations,
	}
	switch {
	case doc.IsIndex():
		return m, fmt.Errorf("%q is not the media type of an image manifest", doc.MediaType)
	case !IsConfig(doc.Config.MediaType):
		return m, fmt.Errorf("configuration of type %q is not an image's", Clip(doc.Config.MediaType))
	}
	for _, d := range doc.Layers {
		if !IsLayer(d.MediaType) {
			return m, fmt.Errorf("layer %s has unknown media type %q", d.Digest, Clip(d.MediaType))
		}
	}
	return m, nil
}

// Index is the document as an index, which manifests are not.
func (doc *Document) Index() (ocispec.Index, error) {
	x := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: doc.MediaType, ArtifactType: doc.ArtifactType,
		Manifests: doc.Manifests, Subject: doc.Subject, Annotations: doc.Annotations,
	}
	if !doc.IsIndex() {
		return x, fmt.Errorf("%q is not the media type of an index", doc.MediaType)
	}
	return x, nil
}

// ParseIndex reads an index of manifests; see [ParseDocument].
func ParseIndex(data []byte, mediaType string) (ocispec.Index, error) {
	doc, err := ParseDocument(data, mediaType)
	if err != nil {
		return ocispec.Index{}, err
	}
	return doc.Index()
}

// ReadSmall fetches the whole of a manifest, an index or a configuration.
func ReadSmall(ctx context.Context, src Fetcher, d ocispec.Descriptor) ([]byte, error) {
	return ReadBlob(ctx, src, d, MaxManifestSize)
}

// ReadBlob fetches the whole of a blob, of at most so many bytes, and verifies it.
func ReadBlob(ctx context.Context, src Fetcher, d ocispec.Descriptor, most int64) (_ []byte, err error) {
	if err := CheckDescriptor(d); err != nil {
		return nil, err
	}
	if d.Size > most {
		return nil, fmt.Errorf("%s: has %d bytes, more than the %d that a document may have", d.Digest, d.Size, most)
	}
	r, err := src.Fetch(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	verified := Verify(r, d)
	data := make([]byte, 0, d.Size+1) // one more, so that the end is read without growing
	for {
		n, err := verified.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// ReadDocument fetches and parses a manifest or an index, and returns its bytes, too.
func ReadDocument(ctx context.Context, src Fetcher, d ocispec.Descriptor) (*Document, []byte, error) {
	raw, err := ReadSmall(ctx, src, d)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", Noun(d.MediaType), err)
	}
	doc, err := ParseDocument(raw, d.MediaType)
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", Noun(d.MediaType), d.Digest, err)
	}
	return doc, raw, nil
}

// Read reads the image whose manifest is d or, of an index, the image for platform p, nil being this machine's. It fetches
// manifests and the configuration, and no layer.
func Read(ctx context.Context, src Fetcher, d ocispec.Descriptor, p *ocispec.Platform) (*Image, error) {
	for depth := 0; ; depth++ {
		doc, _, err := ReadDocument(ctx, src, d)
		if err != nil {
			return nil, err
		}
		if !doc.IsIndex() {
			d.MediaType = doc.MediaType
			return readImage(ctx, src, d, doc)
		}
		if depth == MaxIndexDepth {
			return nil, fmt.Errorf("index %s: more than %d indexes within each other", d.Digest, MaxIndexDepth)
		}
		x, err := doc.Index()
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", d.Digest, err)
		}
		child, err := SelectPlatform(x, p)
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", d.Digest, err)
		}
		d = child
	}
}

func readImage(ctx context.Context, src Fetcher, d ocispec.Descriptor, doc *Document) (*Image, error) {
	m, err := doc.Manifest()
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	config, err := ReadSmall(ctx, src, m.Config)
	if err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", d.Digest, err)
	}
	c, err := ParseConfig(config, m)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	return &Image{Descriptor: d, Manifest: m, Config: c, RawConfig: config}, nil
}
