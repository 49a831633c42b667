package inspect

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// An Image is an image as docker's API shows it. Field names are docker's.
type Image struct {
	ID            string `json:"Id"`
	RepoTags      []string
	RepoDigests   []string
	Parent        string
	Comment       string
	Created       *Timestamp `json:",omitempty"`
	DockerVersion string
	Author        string
	Architecture  string
	Variant       string `json:",omitempty"`
	Os            string
	Size          int64
	GraphDriver   Driver
	RootFS        Layers
	Metadata      struct {
		LastTagTime time.Time `json:",omitzero"` // unknown of an image in a registry
	}
	Descriptor ocispec.Descriptor
	Manifests  []Manifest `json:",omitempty"`
	Config     ImageConfig
}

// Id is ID for templates, which docker lets use the names of the JSON.
func (i *Image) Id() string { return i.ID } //nolint:staticcheck // docker's name

// Layers are the layers of an image, by the digests of their tars.
type Layers struct {
	Type   string
	Layers []digest.Digest
}

// An ImageConfig is what an image says of its containers. Unlike in the image, what is not said is there, and empty.
type ImageConfig struct {
	ArgsEscaped  bool `json:",omitempty"` // of Windows
	Cmd          []string
	Entrypoint   []string
	Env          []string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Healthcheck  *image.Healthcheck  `json:",omitempty"`
	Labels       map[string]string
	OnBuild      []string
	Shell        []string `json:",omitempty"`
	StopSignal   string   `json:",omitempty"`
	User         string
	Volumes      map[string]struct{}
	WorkingDir   string
}

// A Manifest is one of the images of an index, or the one image that there is, as docker's API shows it.
type Manifest struct {
	ID         digest.Digest
	Descriptor ocispec.Descriptor
	Available  bool // its layers are here
	Kind       string
	Size       struct{ Total, Content int64 }
	ImageData  *ManifestData `json:",omitempty"`
}

// ManifestData say what an Manifest is of.
type ManifestData struct {
	Platform   ocispec.Platform
	Containers []string // IDs of those that were made of it
	Size       struct{ Unpacked int64 }
}

// An ImageSummary is an image as docker's API lists it, once for all of its names. Field names are docker's.
type ImageSummary struct {
	Containers  int
	Created     int64  // in seconds since 1970
	ID          string `json:"Id"`
	Labels      map[string]string
	ParentID    string `json:"ParentId"`
	RepoDigests []string
	RepoTags    []string
	SharedSize  int64 // bytes of its layers that other images have, too; -1 if that was not asked for
	Size        int64 // bytes of its layers without compression
	Descriptor  ocispec.Descriptor
	Manifests   []Manifest `json:",omitempty"`
}
