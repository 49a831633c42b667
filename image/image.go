// Package image says what references, layers and images are, and keeps their bytes in an OCI image layout.
//
// It speaks OCI JSON and compression; nobody else has to. Blobs are written aside, made durable in batches
// ([Layout.Publish]) and renamed, so that a blob under its digest is always whole.
package image

import (
	"crypto/sha256"
	"encoding/hex"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Config is an image's configuration: OCI's, with the fields that Docker adds (Healthcheck, OnBuild, Shell).
type Config = dockerspec.DockerOCIImage

// A Healthcheck says how a container is asked whether it is well.
type Healthcheck = dockerspec.HealthcheckConfig

// A Layer is one set of file system changes: a tarball.
type Layer struct {
	Blob   ocispec.Descriptor // as stored: the tar itself, or a compressed form of it
	DiffID digest.Digest      // the tar
}

// An Image is a manifest with its configuration, both as their bytes are.
type Image struct {
	Descriptor ocispec.Descriptor // of the manifest
	Manifest   ocispec.Manifest
	Config     Config
	RawConfig  []byte // as stored; its digest is the image's ID
}

// ID is the digest of the configuration, which names the image for people.
func (i *Image) ID() digest.Digest { return i.Manifest.Config.Digest }

// Layers pairs the manifest's blobs with the configuration's diffIDs, lowest first. It is complete only for an image
// that [Layout.Image] or a registry has checked to have as many of one as of the other.
func (i *Image) Layers() []Layer {
	n := min(len(i.Manifest.Layers), len(i.Config.RootFS.DiffIDs))
	layers := make([]Layer, n)
	for k := range layers {
		layers[k] = Layer{Blob: i.Manifest.Layers[k], DiffID: i.Config.RootFS.DiffIDs[k]}
	}
	return layers
}

// ChainID names the file system that layers sum up to (OCI image spec, config.md, "Layer ChainID"). No layers have the
// empty chain ID.
func ChainID(layers []Layer) digest.Digest {
	if len(layers) == 0 {
		return ""
	}
	text := append(make([]byte, 0, 160), layers[0].DiffID...)
	for _, l := range layers[1:] { // each step of a build asks for all below it, so that there is no allocation for each
		text = append(append(text, ' '), l.DiffID...)
		sum := sha256.Sum256(text)
		text = hex.AppendEncode(append(text[:0], "sha256:"...), sum[:])
	}
	return digest.Digest(text)
}
