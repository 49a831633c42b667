// Package objects makes an [image.Store] of a place that keeps objects under keys, such as a bucket of S3.
//
// Blobs are objects under their digests. A name holds the bytes of the manifest or index that it stands for, so that it takes one
// request to resolve and read it.
package objects

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// A Bucket keeps objects. Safe for concurrent use. What is not there is an error that is fs.ErrNotExist.
type Bucket interface {
	// Get opens a blob from an offset on.
	Get(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)

	// Has reports whether a blob is there, and sees to it that it stays for a while.
	Has(ctx context.Context, d ocispec.Descriptor) (bool, error)

	// Put stores a blob whose digest and size are known. Reading content from its beginning to its end fails if it is something else;
	// who sends it in parts does that too ([Check]), before anybody can find the blob.
	Put(ctx context.Context, d ocispec.Descriptor, content image.Content) error

	// Read returns what a name holds, of at most image.MaxManifestSize bytes.
	Read(ctx context.Context, name string) ([]byte, error)

	// Write has a name hold something else.
	Write(ctx context.Context, name string, raw []byte) error
}

// A Store is a bucket as an [image.Store]. Names are tags. Safe for concurrent use.
type Store struct {
	bucket  Bucket
	staging *image.Staging

	mu   sync.Mutex // guards read
	read []document // that names hold, the newest last: whoever resolves one fetches it next
}

type document struct {
	digest digest.Digest
	raw    []byte
}

// Limits of what is remembered of names: a bucket may have 100,000, of 4 MiB. More than a hundred are never read at once, of some 100 KiB.
const (
	maxDocuments = 256
	maxRead      = 8 * image.MaxManifestSize // bytes
)

// New makes a Store of a bucket. Blobs whose digests are not known are kept in staging until they are.
func New(bucket Bucket, staging *image.Staging) *Store {
	return &Store{bucket: bucket, staging: staging}
}

// otherType is the type of what a name holds that is neither a manifest nor an index: something of other programs.
const otherType = "application/octet-stream"

// Resolve implements [image.Store].
func (s *Store) Resolve(ctx context.Context, r image.Reference) (ocispec.Descriptor, error) {
	raw, err := s.bucket.Read(ctx, r.Tag)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: otherType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if doc, err := image.ParseDocument(raw, ""); err == nil {
		d.MediaType = doc.MediaType
	}
	s.keep(document{d.Digest, raw})
	return d, nil
}

// keep remembers a document, in the place of the oldest.
func (s *Store) keep(doc document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = append(slices.DeleteFunc(s.read, func(old document) bool { return old.digest == doc.digest }), doc)
	size := 0
	for i := range slices.Backward(s.read) {
		if size += len(s.read[i].raw); size > maxRead || len(s.read)-i > maxDocuments {
			s.read = slices.Delete(s.read, 0, i+1)
			return
		}
	}
}

// kept is a document that is remembered; nil if it is not.
func (s *Store) kept(d digest.Digest) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.read, func(doc document) bool { return doc.digest == d }); i >= 0 {
		return s.read[i].raw
	}
	return nil
}

// Fetch implements [image.Fetcher]. A body that breaks off is taken up again.
func (s *Store) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := image.CheckOffset(d, offset); err != nil {
		return nil, err
	}
	if raw := s.kept(d.Digest); raw != nil {
		return image.Bytes(raw).Open(ctx, offset)
	}
	body, err := s.bucket.Get(ctx, d, offset)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	return &resumed{ctx: ctx, bucket: s.bucket, d: d, at: offset, body: body, tries: maxTries}, nil
}

// Exists implements [image.Store].
func (s *Store) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if err := image.CheckDescriptor(d); err != nil {
		return false, err
	}
	return s.bucket.Has(ctx, d)
}

// Push implements [image.Store].
func (s *Store) Push(ctx context.Context, d ocispec.Descriptor, content image.Content) (_ ocispec.Descriptor, err error) {
	if d.Digest != "" {
		if err := image.CheckDescriptor(d); err != nil {
			return d, err
		}
		return d, s.bucket.Put(ctx, d, verified(d, content))
	}
	f, err := s.staging.Create()
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := content.Open(ctx, 0)
	if err != nil {
		return d, err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), r)
	if err = errors.Join(err, r.Close()); err != nil {
		return d, err
	}
	if content.Describe != nil {
		d = content.Describe()
	}
	d.Digest, d.Size = digest.NewDigest(digest.SHA256, h), n
	return d, s.bucket.Put(ctx, d, image.Content{Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, offset, n-offset)), nil
	}})
}

// verified is content that fails at its end if it is not what d says, so that the request that sends it is not completed.
func verified(d ocispec.Descriptor, content image.Content) image.Content {
	return image.Content{Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		r, err := content.Open(ctx, offset)
		if err != nil || offset > 0 {
			return r, err
		}
		return image.Verified(r, d), nil
	}}
}

// Check reads content that a bucket was given to its end, and is the error that it fails with.
func Check(ctx context.Context, content image.Content) error {
	r, err := content.Open(ctx, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// PushManifest implements [image.Store].
func (s *Store) PushManifest(ctx context.Context, r image.Reference, d ocispec.Descriptor, raw []byte) error {
	if _, err := s.Push(ctx, d, image.Bytes(raw)); err != nil || r.Tag == "" {
		return err
	}
	return s.bucket.Write(ctx, r.Tag, raw)
}

const maxTries = 4 // without a byte between them

// A resumed body asks for the rest when it breaks off.
type resumed struct {
	ctx    context.Context
	bucket Bucket
	d      ocispec.Descriptor
	at     int64
	body   io.ReadCloser
	tries  int // that are left
}

func (r *resumed) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if r.at += int64(n); n > 0 {
		r.tries = maxTries
	}
	if err == nil || r.at >= r.d.Size || r.ctx.Err() != nil {
		return n, err
	}
	if r.tries--; r.tries < 0 {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
	body, getErr := r.bucket.Get(r.ctx, r.d, r.at)
	if getErr != nil {
		return n, getErr
	}
	_ = r.body.Close() // it is broken
	r.body = body
	return n, nil
}

func (r *resumed) Close() error { return r.body.Close() }

var _ image.Store = (*Store)(nil)
