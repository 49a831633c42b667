package registry

import (
	"errors"

	"github.com/forge-build/forge/image"
)

// Limits on what a registry may say.
const (
	maxDocument   = image.MaxManifestSize
	maxReferences = image.MaxReferences // descriptors in one walk
)

var errForeign = errors.New("is a foreign layer, kept outside of registries by its vendor, and is not fetched")

// isLayer reports whether a blob is a layer of a file system, compressed or not, that is kept in registries.
func isLayer(mediaType string) bool { return image.IsLayer(mediaType) && !image.IsForeign(mediaType) }
