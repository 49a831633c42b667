package registry

import (
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// A readCloser reads from one and closes another.
type readCloser struct {
	io.Reader
	io.Closer
}

// verified reads r, which is d's content or fails.
func verified(r io.ReadCloser, d ocispec.Descriptor) io.ReadCloser {
	return readCloser{image.Verify(r, d), r}
}
