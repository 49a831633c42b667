package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
)

// An Archive is a tar of images, OCI or docker, whose blobs are read where they lie. It is a [Store] that is only read.
type Archive struct {
	f      *os.File
	names  *archiveNames
	format ArchiveFormat

	mu    sync.Mutex                    // guards what is below
	blobs map[digest.Digest]archiveFile // of a docker archive: those of an OCI archive have names
	made  map[digest.Digest][]byte      // documents that a docker archive does without
}

// OpenArchive opens an archive. One that is compressed, or that comes through a pipe, is first written to a temporary file
// that has no name. Of an archive that is of both kinds, the images are looked up as in one of the kind prefer.
func OpenArchive(ctx context.Context, path string, prefer ArchiveFormat) (*Archive, error) {
	f, err := openTar(ctx, path)
	if err != nil {
		return nil, err
	}
	return readArchive(ctx, f, prefer)
}

// ReadArchive is [OpenArchive] of what comes by stream.
func ReadArchive(ctx context.Context, r io.Reader, prefer ArchiveFormat) (*Archive, error) {
	f, err := keepTar(ctx, r)
	if err != nil {
		return nil, err
	}
	return readArchive(ctx, f, prefer)
}

func readArchive(ctx context.Context, f *os.File, prefer ArchiveFormat) (_ *Archive, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	a := &Archive{f: f, blobs: map[digest.Digest]archiveFile{}, made: map[digest.Digest][]byte{}}
	a.names, err = readNames(ctx, f, a, func(_ string, size int64, _ io.Reader) (archiveFile, error) {
		at, err := f.Seek(0, io.SeekCurrent) // the reader of the tar reads no further than the header
		return archiveFile{offset: at, size: size}, err
	})
	if err != nil {
		return nil, err
	}
	a.format, err = a.names.format(prefer)
	return a, err
}

// openTar opens the file path, or a temporary one with the tar that it gives.
func openTar(ctx context.Context, path string) (*os.File, error) {
	if f, err := durable.OpenRegular(path); err == nil {
		magic := make([]byte, 6)
		n, err := f.ReadAt(magic, 0)
		if err != nil && err != io.EOF {
			return nil, errors.Join(err, f.Close())
		}
		if !isCompressed(magic[:n]) {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	in, err := durable.Input(ctx, path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return keepTar(ctx, in)
}

// keepTar writes a tar, compressed or not, to a temporary file.
func keepTar(ctx context.Context, r io.Reader) (*os.File, error) {
	content, _, err := Inflate(bufio.NewReaderSize(r, bufSize))
	if err != nil {
		return nil, err
	}
	defer content.Close()
	f, w, err := Temporary(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{content}, make([]byte, bufSize)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// Close gives the file back.
func (a *Archive) Close() error { return a.f.Close() }

// Resolve finds what a name stands for, the zero Reference being the only image.
func (a *Archive) Resolve(ctx context.Context, r Reference) (ocispec.Descriptor, error) {
	if a.format == OCIArchive {
		x, err := a.names.index(ctx)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		return pick(x, r)
	}
	items, err := a.names.items(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	item, err := pickItem(items, r)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return a.names.manifest(ctx, item, archiveConfigs{})
}

func pickItem(items []dockerItem, r Reference) (dockerItem, error) {
	want := indexName(r)
	if named, err := ParseReference(want); err == nil {
		want = named.String()
	}
	var names []string
	for _, item := range items {
		for _, tag := range item.RepoTags {
			names = append(names, tag)
			if named, err := ParseReference(tag); err == nil && named.String() == want {
				return item, nil
			}
		}
		if len(item.RepoTags) == 0 {
			names = append(names, item.Config)
		}
	}
	if want == "" && len(items) == 1 {
		return items[0], nil
	}
	if r.Domain != "" {
		return dockerItem{}, notPicked(r.Familiar(), names)
	}
	return dockerItem{}, notPicked(indexName(r), names)
}

// Exists reports whether the archive has a blob.
func (a *Archive) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	if err := CheckDescriptor(d); err != nil {
		return false, err
	}
	if _, ok := a.document(d.Digest); ok {
		return true, nil
	}
	f, ok := a.find(d.Digest)
	return ok && f.size == d.Size, nil
}

// Fetch opens a blob; see [Fetcher].
func (a *Archive) Fetch(_ context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := CheckOffset(d, offset); err != nil {
		return nil, err
	}
	if raw, ok := a.document(d.Digest); ok {
		return Bytes(raw).Open(nil, offset)
	}
	f, ok := a.find(d.Digest)
	if !ok {
		return nil, fmt.Errorf("archive has no %s: %w", d.Digest, fs.ErrNotExist)
	}
	if f.size != d.Size {
		return nil, fmt.Errorf("%s: has %d bytes in the archive, not %d", d.Digest, f.size, d.Size)
	}
	return io.NopCloser(io.NewSectionReader(a.f, f.offset+offset, d.Size-offset)), nil
}

func (a *Archive) document(d digest.Digest) ([]byte, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	raw, ok := a.made[d]
	return raw, ok
}

func (a *Archive) find(d digest.Digest) (archiveFile, bool) {
	a.mu.Lock()
	f, ok := a.blobs[d]
	a.mu.Unlock()
	if ok {
		return f, true
	}
	f, err := a.names.find(blobName(d))
	return f, err == nil
}

// Push is refused.
func (a *Archive) Push(_ context.Context, d ocispec.Descriptor, _ Content) (ocispec.Descriptor, error) {
	return d, fmt.Errorf("%s: is an archive, which is only read: %w", a.f.Name(), errors.ErrUnsupported)
}

// PushManifest is refused.
func (a *Archive) PushManifest(ctx context.Context, _ Reference, d ocispec.Descriptor, _ []byte) error {
	_, err := a.Push(ctx, d, Content{})
	return err
}

// small implements archiveContent.
func (a *Archive) small(_ context.Context, f archiveFile) ([]byte, error) {
	if f.size > MaxManifestSize {
		return nil, fmt.Errorf("has %d bytes, more than the %d that a document may have", f.size, MaxManifestSize)
	}
	return io.ReadAll(io.NewSectionReader(a.f, f.offset, f.size))
}

// layer implements archiveContent. It hashes the layer, whose digest nothing in a docker archive says.
func (a *Archive) layer(ctx context.Context, f archiveFile) (d ocispec.Descriptor, magic []byte, err error) {
	magic = make([]byte, min(4, f.size))
	if _, err := a.f.ReadAt(magic, f.offset); err != nil {
		return d, nil, err
	}
	out := &output{ctx: ctx, w: io.Discard, hash: sha256.New()}
	r := io.NewSectionReader(a.f, f.offset, f.size)
	if _, err := io.CopyBuffer(out, struct{ io.Reader }{r}, make([]byte, bufSize)); err != nil {
		return d, nil, err
	}
	if out.n != f.size {
		return d, nil, io.ErrUnexpectedEOF
	}
	d = ocispec.Descriptor{Digest: sumDigest(out.hash), Size: out.n}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blobs[d.Digest] = f
	return d, magic, nil
}

// keep implements archiveContent.
func (a *Archive) keep(_ context.Context, mediaType string, data []byte) (ocispec.Descriptor, error) {
	d := describe(mediaType, data)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.made[d.Digest] = data
	return d, nil
}
