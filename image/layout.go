package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Layout is an OCI image layout on disk, root/images, with one small file a name beside it, root/names. Safe for
// concurrent use, by processes too.
//
// A blob under its digest is whole and durable: it got there by [Layout.Publish]. Until then it is staged, and found by
// the methods of this process's Layout as if it were there.
type Layout struct {
	root    string // state directory
	staging *Staging
	free    func(dir string) (free, total uint64, err error) // statfs, but for tests
	proven  sync.Map                                         // [2]digest.Digest of blobs and diffIDs that this process has compared
}

// OpenLayout opens or makes the layout in root/images, with its names in root/names. New blobs wait in st.
func OpenLayout(root string, st *Staging) (*Layout, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	l := &Layout{root: root, staging: st, free: freeSpace}
	header, err := os.ReadFile(l.path("images", ocispec.ImageLayoutFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var version ocispec.ImageLayout
	if json.Unmarshal(header, &version) != nil || version.Version == "" { // missing, torn or damaged: it says nothing
		return l, l.create()
	}
	if version.Version != ocispec.ImageLayoutVersion {
		return nil, fmt.Errorf("%s: image layout version %q is not known", l.path("images"), Clip(version.Version))
	}
	if _, err := os.Lstat(l.stale()); err == nil {
		l.refreshIndex() // somebody died between naming an image and telling so in index.json
	}
	return l, nil
}

// create makes an empty layout. The header comes last: without it, everything is made again.
func (l *Layout) create() error {
	for _, dir := range []string{l.blobs(), l.names()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(l.index()); errors.Is(err, fs.ErrNotExist) {
		if err := l.withNames(context.Background(), l.writeIndex); err != nil {
			return err
		}
	}
	header, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return l.staging.writeDurably("image.create", replacement{l.path("images", ocispec.ImageLayoutFile), header})
}

func (l *Layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.root}, elem...)...)
}

func (l *Layout) blobs() string { return l.path("images", ocispec.ImageBlobsDir, "sha256") }
func (l *Layout) index() string { return l.path("images", ocispec.ImageIndexFile) }
func (l *Layout) names() string { return l.path("names") }

// Root is the state directory.
func (l *Layout) Root() string { return l.root }

// Staging is where new blobs wait for Publish.
func (l *Layout) Staging() *Staging { return l.staging }

// BlobPath is the final path of a blob (root/images/blobs/sha256/<hex>), or "" if d is not a valid digest.
func (l *Layout) BlobPath(d digest.Digest) string {
	if CheckDigest(d) != nil {
		return ""
	}
	return filepath.Join(l.blobs(), d.Encoded())
}

// OpenBlob opens a blob, staged or published, for reading by offset; nothing is verified. fs.ErrNotExist if it is not
// here.
func (l *Layout) OpenBlob(d digest.Digest) (*os.File, error) {
	if err := CheckDigest(d); err != nil {
		return nil, err
	}
	f, err := l.staging.Open(l.BlobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound("blob", d)
	}
	return f, err
}

func notFound(what string, d digest.Digest) error {
	return fmt.Errorf("%s %s is not in the store: %w", what, d, fs.ErrNotExist)
}

// Exists reports whether the blob is here, with the stated size if d.Size > 0. If it is, it stays: see [Layout.Hold].
func (l *Layout) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if ok, err := l.Has(d); !ok || err != nil {
		return false, err
	}
	if err := l.Hold(ctx, d); err != nil {
		return false, err
	}
	return l.Has(d)
}

// Has reports whether the blob is here at this moment, with the stated size if d.Size > 0.
func (l *Layout) Has(d ocispec.Descriptor) (bool, error) {
	size, err := l.blobSize(d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && (d.Size <= 0 || size == d.Size), err
}

func (l *Layout) blobSize(d digest.Digest) (int64, error) {
	if err := CheckDigest(d); err != nil {
		return 0, err
	}
	info, err := l.staging.Stat(l.BlobPath(d))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// HaveLayer reports whether a layer is here, as it is described. If it is, it stays: see [Layout.Hold].
func (l *Layout) HaveLayer(ctx context.Context, layer Layer) (bool, error) {
	if err := l.Hold(ctx, layer.Blob, ocispec.Descriptor{Digest: layer.DiffID}); err != nil {
		return false, err
	}
	return l.Has(layer.Blob)
}

// TarSize is the size of a layer without compression, in bytes, or that of its blob if the tar is not here.
func (l *Layout) TarSize(layer Layer) int64 {
	if size, err := l.blobSize(layer.DiffID); err == nil {
		return size
	}
	return layer.Blob.Size
}

// Fetch opens a blob, unless ctx has ended: who reads many documents ends, too. See [Fetcher].
func (l *Layout) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := CheckOffset(d, offset); err != nil {
		return nil, err
	}
	f, err := l.OpenBlob(d.Digest)
	if err != nil {
		return nil, err
	}
	return section(f, f, 0, d, offset), nil
}

// Push stages a blob, reading at most d.Size+1 bytes; see [Store]. One that is here already is not read.
func (l *Layout) Push(ctx context.Context, d ocispec.Descriptor, content Content) (_ ocispec.Descriptor, err error) {
	known := d.Digest != ""
	if known {
		if err := CheckDescriptor(d); err != nil {
			return d, err
		}
		if ok, err := l.Exists(ctx, d); ok || err != nil {
			return d, err
		}
	}
	r, err := content.Open(ctx, 0)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := l.staging.Create()
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, f.Close()) }() // after Commit there is nothing left to discard

	if known {
		_, err = io.CopyBuffer(l.Guard(ctx, f), Verify(r, d), make([]byte, bufSize))
	} else {
		out := l.output(ctx, f)
		_, err = io.CopyBuffer(out, struct{ io.Reader }{r}, make([]byte, bufSize))
		d.Digest, d.Size = sumDigest(out.hash), out.n
	}
	if err != nil {
		return d, err
	}
	return d, f.Commit(l.BlobPath(d.Digest))
}

// PushFile stages a file of the state directory as the blob d, without reading it: the caller has verified it. The file is
// gone afterwards.
func (l *Layout) PushFile(ctx context.Context, d digest.Digest, path string) error {
	if ok, err := l.Exists(ctx, ocispec.Descriptor{Digest: d}); err != nil {
		return err
	} else if !ok {
		return l.staging.commitFile(path, l.BlobPath(d))
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// PushManifest stages a manifest or an index and, unless r is the zero Reference, tags it; see [Store].
func (l *Layout) PushManifest(ctx context.Context, r Reference, d ocispec.Descriptor, raw []byte) error {
	if _, err := l.Push(ctx, d, Bytes(raw)); err != nil || r == (Reference{}) {
		return err
	}
	return l.Tag(ctx, r, d)
}

// put stages bytes and describes them.
func (l *Layout) put(mediaType string, data []byte) (ocispec.Descriptor, error) {
	return l.Push(context.Background(), describe(mediaType, data), Bytes(data))
}

// Publish makes everything staged durable.
func (l *Layout) Publish(ctx context.Context) error { return l.staging.Publish(ctx) }
