package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A ContentStore is a directory of blobs that a client lends: of an image, or of a cache, to which it may be written, too. The client keeps
// the names of what is in it.
type ContentStore interface {
	// Size is how many bytes a blob has. What is not there is an error that is fs.ErrNotExist.
	Size(ctx context.Context, d digest.Digest) (int64, error)
	Read(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error)
	Write(ctx context.Context, d digest.Digest, size int64, r io.Reader) error
	// Name tells the client what is to have a tag.
	Name(tag string, d ocispec.Descriptor) error
}

// A LentDir is a client's directory as a store of images. What is written is checked here, as what is read is checked by who reads it.
type LentDir struct {
	content ContentStore

	mu    sync.Mutex // guards names
	names map[string]ocispec.Descriptor
}

// OpenLentDir opens a client's directory, of which it has said what one tag stands for; "" is not said.
func OpenLentDir(ctx context.Context, content ContentStore, tag string, d digest.Digest) (*LentDir, error) {
	s := &LentDir{content: content, names: map[string]ocispec.Descriptor{}}
	if d == "" {
		return s, nil
	}
	if err := CheckDigest(d); err != nil {
		return nil, err
	}
	size, err := content.Size(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	doc, _, err := ReadDocument(ctx, s, ocispec.Descriptor{Digest: d, Size: size})
	if err != nil {
		return nil, err
	}
	s.names[tag] = ocispec.Descriptor{MediaType: doc.MediaType, Digest: d, Size: size}
	return s, nil
}

// Resolve implements [Store].
func (s *LentDir) Resolve(_ context.Context, r Reference) (ocispec.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.names[r.Tag]
	if !ok {
		return d, fmt.Errorf("tag %s: %w", r.Tag, fs.ErrNotExist)
	}
	return d, nil
}

// Tags lists the names.
func (s *LentDir) Tags(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.names)), nil
}

// Fetch implements [Store].
func (s *LentDir) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := CheckOffset(d, offset); err != nil {
		return nil, err
	}
	return s.content.Read(ctx, d.Digest, offset)
}

// Exists implements [Store].
func (s *LentDir) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	size, err := s.content.Size(ctx, d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && size == d.Size, err
}

// Push implements [Store]. A blob whose digest is not known yet is read twice.
func (s *LentDir) Push(ctx context.Context, d ocispec.Descriptor, content Content) (_ ocispec.Descriptor, err error) {
	if d.Digest == "" {
		if d, err = descriptorOf(ctx, content); err != nil {
			return d, err
		}
	}
	if err := CheckDescriptor(d); err != nil {
		return d, err
	}
	if there, err := s.Exists(ctx, d); there || err != nil {
		return d, err
	}
	r, err := content.Open(ctx, 0)
	if err != nil {
		return d, err
	}
	err = s.content.Write(ctx, d.Digest, d.Size, Verify(r, d))
	return d, errors.Join(err, r.Close())
}

// descriptorOf finds out what content is.
func descriptorOf(ctx context.Context, content Content) (d ocispec.Descriptor, err error) {
	r, err := content.Open(ctx, 0)
	if err != nil {
		return d, err
	}
	sum := digest.Canonical.Digester()
	size, err := io.Copy(sum.Hash(), r)
	if err = errors.Join(err, r.Close()); err != nil {
		return d, err
	}
	if content.Describe != nil {
		d = content.Describe()
	}
	d.Digest, d.Size = sum.Digest(), size
	return d, nil
}

// PushManifest implements [Store].
func (s *LentDir) PushManifest(ctx context.Context, r Reference, d ocispec.Descriptor, raw []byte) error {
	if _, err := s.Push(ctx, d, Bytes(raw)); err != nil || r.Tag == "" {
		return err
	}
	s.mu.Lock()
	s.names[r.Tag] = d
	s.mu.Unlock()
	return s.content.Name(r.Tag, d)
}

var _ Store = (*LentDir)(nil)
