// Package registry copies images between stores; one kind of store is a registry.
//
// It speaks HTTP: the OCI distribution protocol 1.1 and its elder, Docker's registry API v2, with their ways of asking for
// credentials. [Client.Connect] gives a [Repository], [Copy] moves a manifest and all it names from one store to another, leaves
// first. Whatever a registry says is checked before it is believed: sizes and digests of everything, lengths of every
// document, the origin that credentials go to, the address that a redirect leads to.
//
// Nothing is read from disk and nothing is asked of the network before a registry is needed.
package registry

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// A Fetcher opens content by descriptor; *image.Layout and *Repository are two. The reader fails at its end if size or
// digest are not the descriptor's.
type Fetcher interface {
	Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
}

// A Pusher stores content by descriptor. Push checks size and digest and stores nothing if they are wrong.
type Pusher interface {
	Exists(ctx context.Context, d ocispec.Descriptor) (bool, error)
	Push(ctx context.Context, d ocispec.Descriptor, r io.Reader) error
}

// A Resolver finds what a name stands for. An unknown name is an error that is fs.ErrNotExist.
type Resolver interface {
	Resolve(ctx context.Context, r image.Reference) (ocispec.Descriptor, error)
}

// A Tagger names content that is there.
type Tagger interface {
	Tag(ctx context.Context, r image.Reference, d ocispec.Descriptor) error
}

// A Publisher makes durable and visible to other processes what was pushed to it; *image.Layout is one. Copy calls it for
// finished blobs while others are still on their way, so it is safe for concurrent use with Push.
type Publisher interface {
	Publish(ctx context.Context) error
}

// A LayerSink takes a layer in one pass: it stores the compressed bytes of r, inflates them, checks the tar against diffID
// and makes of it what it needs, all while r is being downloaded. r fails at its end if what was read is not d's content.
//
// When r has been read to its end, it may be an [Adopter]: its bytes are in a file already, which need not be written twice.
type LayerSink interface {
	PushLayer(ctx context.Context, d ocispec.Descriptor, diffID digest.Digest, r io.Reader) error
}

// An Adopter gives away the file that holds all that was read from it, once that has been read to io.EOF. Path is on the
// file system of the directory that [CopyOptions.Partial] was opened with.
type Adopter interface {
	Adopt(path string) error // renames the file to path
}

// A LayerSource makes the compressed form of layers that it keeps as tars; *image.Layout is one.
type LayerSource interface {
	// Compressed finds the form that was made before. Its bytes need not be here any more.
	Compressed(l image.Layer, c image.Compression) (ocispec.Descriptor, bool)

	// CompressTo writes the form to w, remembers and returns its descriptor. The same call always writes the same bytes.
	CompressTo(ctx context.Context, w io.Writer, l image.Layer, c image.Compression) (ocispec.Descriptor, error)
}

// A Store is what an image is pushed from; *image.Layout is one.
type Store interface {
	Fetcher
	Exists(ctx context.Context, d ocispec.Descriptor) (bool, error)
	Image(ctx context.Context, d ocispec.Descriptor, p *ocispec.Platform) (*image.Image, error)
}
