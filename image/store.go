package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/closers"
)

// A Fetcher opens content by descriptor, from offset on, which is at least 0 and at most d.Size. What is read is not more
// than d.Size+1 bytes, and may be anything: the caller checks it ([Verify]). Content that is not there is an error that is
// fs.ErrNotExist.
type Fetcher interface {
	Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

// A Store keeps content by descriptor, and images by name: *Layout, *Dir, *LentDir, *Archive (which is only read), *ArchiveWriter
// (which is only written) and *registry.Repository. Safe for concurrent use.
//
// In a store that is a file or a directory of other programs, a reference of a tag alone is a name as it is written there.
type Store interface {
	Fetcher

	// Resolve finds what a name stands for. A name that is not known is an error that is fs.ErrNotExist.
	Resolve(ctx context.Context, r Reference) (ocispec.Descriptor, error)

	// Exists reports whether the store has the content, in d's size.
	Exists(ctx context.Context, d ocispec.Descriptor) (bool, error)

	// Push stores a blob; wrong size or digest is an error and stores nothing. A blob whose digest is not known before its
	// end has none in d; content and what Push returns describe it.
	Push(ctx context.Context, d ocispec.Descriptor, content Content) (ocispec.Descriptor, error)

	// PushManifest stores the manifest or index d, whose bytes are raw, after all that it names, and names it r. Without a
	// name (the zero Reference) it is found by its digest.
	PushManifest(ctx context.Context, r Reference, d ocispec.Descriptor, raw []byte) error
}

// Why a store takes a manifest not.
var (
	ErrIncomplete = errors.New("names what is not there")
	ErrImmutable  = errors.New("the name cannot be given to something else")
	ErrRefused    = errors.New("nothing of this kind is taken")
)

// Content is what a blob is to hold.
type Content struct {
	// Open gives the bytes from an offset on. It is called as often as it takes to store them, and gives the same each time.
	Open func(ctx context.Context, offset int64) (io.ReadCloser, error)

	// Describe says what the blob is, once it has been read to its end and the reader was closed without error. It is nil
	// where that is known before.
	Describe func() ocispec.Descriptor
}

// Bytes is content that is in memory.
func Bytes(data []byte) Content {
	return Content{Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), nil
	}}
}

// Section opens n bytes of the content, from offset on.
func (c Content) Section(ctx context.Context, offset, n int64) (io.ReadCloser, error) {
	r, err := c.Open(ctx, offset)
	if err != nil {
		return nil, err
	}
	return closers.Reader{Reader: io.LimitReader(r, n), Closer: r}, nil
}

// ContentOf is the content that src has of d.
func ContentOf(src Fetcher, d ocispec.Descriptor) Content {
	return Content{Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) { return src.Fetch(ctx, d, offset) }}
}

// section is the content d from offset on, out of a file that holds it from start on. One more byte shows that the file
// is longer.
func section(f io.ReaderAt, c io.Closer, start int64, d ocispec.Descriptor, offset int64) io.ReadCloser {
	return closers.Reader{Reader: io.NewSectionReader(f, start+offset, d.Size-offset+1), Closer: c}
}

// Verified reads r, which is d's content or fails.
func Verified(r io.ReadCloser, d ocispec.Descriptor) io.ReadCloser {
	return closers.Reader{Reader: Verify(r, d), Closer: r}
}

// CheckOffset reports what is wrong with a descriptor, or with an offset into what it describes.
func CheckOffset(d ocispec.Descriptor, offset int64) error {
	if err := CheckDescriptor(d); err != nil {
		return err
	}
	if offset < 0 || offset > d.Size {
		return fmt.Errorf("%s: offset %d is out of range", d.Digest, offset)
	}
	return nil
}
