package image

import (
	"context"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// STUBS: the seams other rooms compile against. The room's owner splits this into files and fills it in.

// A Layout is an OCI image layout on disk with one small file a name beside it. Safe for concurrent use, by processes too.
type Layout struct{}

// OpenLayout opens or makes the layout in root/images, with its names in root/names.
func OpenLayout(root string, st *Staging) (*Layout, error) { panic("stub") }

// Staging is where new blobs wait for Publish.
func (l *Layout) Staging() *Staging { panic("stub") }

// BlobPath is the final path of a blob (root/images/blobs/sha256/<hex>).
func (l *Layout) BlobPath(d digest.Digest) string { panic("stub") }

// OpenBlob opens a blob, staged or published, for reading by offset. fs.ErrNotExist if it is not here.
func (l *Layout) OpenBlob(d digest.Digest) (*os.File, error) { panic("stub") }

// Exists tells whether the blob is here, with the stated size if d.Size > 0.
func (l *Layout) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) { panic("stub") }

// Fetch opens a blob for a reader that verifies size and digest and fails at EOF if they are wrong.
func (l *Layout) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	panic("stub")
}

// Push stores a blob, reading at most d.Size+1 bytes; wrong size or digest is an error and stores nothing.
func (l *Layout) Push(ctx context.Context, d ocispec.Descriptor, r io.Reader) error { panic("stub") }

// TarOf makes sure that the uncompressed tar of the layer is here (inflating its blob if need be) and opens it.
func (l *Layout) OpenTar(ctx context.Context, layer Layer) (*os.File, error) { panic("stub") }

// Publish makes everything staged durable.
func (l *Layout) Publish(ctx context.Context) error { panic("stub") }

// Image reads the manifest d (or, of an index, the one for platform p, nil being this machine's) and its configuration.
func (l *Layout) Image(ctx context.Context, d ocispec.Descriptor, p *ocispec.Platform) (*Image, error) {
	panic("stub")
}

// Write stores configuration and manifest for layers and returns the image. RootFS is filled in here.
func (l *Layout) Write(ctx context.Context, c Config, layers []Layer, annotations map[string]string) (*Image, error) {
	panic("stub")
}

// Resolve finds what a name stands for. fs.ErrNotExist if nothing.
func (l *Layout) Resolve(ctx context.Context, r Reference) (ocispec.Descriptor, error) {
	panic("stub")
}

// Find finds an image by anything people type: name, digest, ID or unique prefix of one.
func (l *Layout) Find(ctx context.Context, s string) (Named, error) { panic("stub") }

// Tag publishes, then names d. An image with no name is recorded with Tag(ctx, Reference{}, d).
func (l *Layout) Tag(ctx context.Context, r Reference, d ocispec.Descriptor) error { panic("stub") }

// Untag removes a name; the image stays, nameless, until pruned or removed by ID (see Remove).
func (l *Layout) Untag(ctx context.Context, r Reference) error { panic("stub") }

// List returns every record of a name, sorted.
func (l *Layout) List(ctx context.Context) ([]Named, error) { panic("stub") }

// Named is a record of a name (zero Reference: an image without one).
type Named struct {
	Reference  Reference
	Descriptor ocispec.Descriptor
}
