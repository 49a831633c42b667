package image

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's image format version 2, which are read and not written, and of those before it.
const (
	mediaTypeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	mediaTypeDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	mediaTypeDockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	mediaTypeSchema1        = "application/vnd.docker.distribution.manifest.v1+"
	mediaTypeForeignLayer   = "application/vnd.oci.image.layer.nondistributable.v1.tar"
)

// AcceptManifests is what to accept where a manifest or an index is asked for, as an HTTP header says it.
const AcceptManifests = ocispec.MediaTypeImageIndex + ", " + ocispec.MediaTypeImageManifest + ", " +
	mediaTypeDockerIndex + ", " + mediaTypeDockerManifest

// IsIndex reports whether a media type is an index of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == mediaTypeDockerIndex
}

// isManifest reports whether a media type is a manifest of an image or another artifact.
func isManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == mediaTypeDockerManifest
}

// IsDocument reports whether a media type is a manifest or an index.
func IsDocument(mediaType string) bool { return isManifest(mediaType) || IsIndex(mediaType) }

// IsConfig reports whether a media type is an image's configuration.
func IsConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == mediaTypeDockerConfig
}

// IsLayer reports whether a media type is a layer that can be read: a tar, perhaps compressed, of OCI or Docker.
func IsLayer(mediaType string) bool {
	for _, base := range []string{
		ocispec.MediaTypeImageLayer, mediaTypeDockerLayer, mediaTypeDockerForeign, mediaTypeForeignLayer,
	} {
		if rest, ok := strings.CutPrefix(mediaType, base); ok {
			return rest == "" || rest == "+gzip" || rest == ".gzip" || rest == "+zstd" || rest == ".zstd"
		}
	}
	return false
}

// IsTar reports whether a media type is a layer without compression.
func IsTar(mediaType string) bool { return ociLayerType(mediaType) == ocispec.MediaTypeImageLayer }

// IsForeign reports whether a layer of this media type is to be fetched from elsewhere than the registry, and not to be
// pushed.
func IsForeign(mediaType string) bool {
	return strings.HasPrefix(mediaType, mediaTypeDockerForeign) || strings.Contains(mediaType, ".nondistributable.")
}

// Noun is what to call something of a media type in a message.
func Noun(mediaType string) string {
	switch {
	case IsIndex(mediaType):
		return "index"
	case isManifest(mediaType):
		return "manifest"
	case IsConfig(mediaType):
		return "configuration"
	case IsLayer(mediaType):
		return "layer"
	}
	return "blob"
}

// ociLayerType is OCI's name for a layer's media type: an OCI manifest may not name Docker's.
func ociLayerType(mediaType string) string {
	for _, pair := range [][2]string{
		{mediaTypeDockerLayer, ocispec.MediaTypeImageLayer},
		{mediaTypeDockerForeign, mediaTypeForeignLayer},
	} {
		if rest, ok := strings.CutPrefix(mediaType, pair[0]); ok {
			return pair[1] + strings.Replace(rest, ".", "+", 1)
		}
	}
	return mediaType
}
