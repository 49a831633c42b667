package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
)

// A Dir is an OCI image layout in a directory, as any tool makes them. It is a [Store]. Files that others made are not
// trusted: what is no regular file is refused.
type Dir struct{ path string }

// OpenDir opens a layout that is there.
func OpenDir(path string) (*Dir, error) {
	d := &Dir{path}
	_, err := d.index()
	return d, err
}

// CreateDir opens a layout, and makes one if there is none.
func CreateDir(path string) (*Dir, error) {
	d := &Dir{path}
	if err := os.MkdirAll(d.blobs(), 0o755); err != nil {
		return nil, err
	}
	header := filepath.Join(path, ocispec.ImageLayoutFile)
	if _, err := os.Stat(header); !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	text, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	return d, durable.WriteFile(header, text, 0o644)
}

func (d *Dir) blobs() string { return filepath.Join(d.path, ocispec.ImageBlobsDir, "sha256") }

func (d *Dir) blob(desc ocispec.Descriptor) string {
	return filepath.Join(d.blobs(), desc.Digest.Encoded())
}

func (d *Dir) index() (x ocispec.Index, err error) {
	f, err := durable.OpenRegular(filepath.Join(d.path, ocispec.ImageIndexFile))
	if err != nil {
		return x, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, MaxManifestSize+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return x, err
	}
	if x, err = ParseIndex(raw, ""); err != nil {
		return x, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return x, nil
}

// Resolve finds what a name stands for, the zero Reference being the only image.
func (d *Dir) Resolve(_ context.Context, r Reference) (ocispec.Descriptor, error) {
	x, err := d.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return pick(x, r)
}

// Fetch opens a blob; see [Fetcher].
func (d *Dir) Fetch(_ context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := CheckOffset(desc, offset); err != nil {
		return nil, err
	}
	f, err := durable.OpenRegular(d.blob(desc))
	if err != nil {
		return nil, err
	}
	return section(f, f, 0, desc, offset), nil
}

// Exists reports whether a blob is there in its size.
func (d *Dir) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := CheckDescriptor(desc); err != nil {
		return false, err
	}
	st, err := os.Stat(d.blob(desc))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && st.Mode().IsRegular() && st.Size() == desc.Size, err
}

// Push writes a blob; see [Store].
func (d *Dir) Push(ctx context.Context, desc ocispec.Descriptor, content Content) (_ ocispec.Descriptor, err error) {
	if desc.Digest == "" {
		return d.pushUnknown(ctx, content)
	}
	if err := CheckDescriptor(desc); err != nil {
		return desc, err
	}
	r, err := content.Open(ctx, 0)
	if err != nil {
		return desc, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := durable.Create(d.blob(desc), 0o644)
	if err != nil {
		return desc, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := &output{ctx: ctx, w: f, free: freeSpace, dir: d.path}
	if _, err := io.CopyBuffer(w, Verify(r, desc), make([]byte, bufSize)); err != nil {
		return desc, err
	}
	return desc, f.Commit()
}

// pushUnknown writes a blob whose digest is known when it has been written: aside, and then under that.
func (d *Dir) pushUnknown(ctx context.Context, content Content) (desc ocispec.Descriptor, err error) {
	aside, err := os.CreateTemp(d.path, ".blob-")
	if err != nil {
		return desc, err
	}
	defer func() { err = errors.Join(err, aside.Close()) }()
	if err := os.Remove(aside.Name()); err != nil {
		return desc, err
	}
	r, err := content.Open(ctx, 0)
	if err != nil {
		return desc, err
	}
	w := &output{ctx: ctx, w: aside, hash: sha256.New(), free: freeSpace, dir: d.path}
	_, err = io.CopyBuffer(w, struct{ io.Reader }{r}, make([]byte, bufSize))
	if err = errors.Join(err, r.Close()); err != nil {
		return desc, err
	}
	if content.Describe != nil {
		desc = content.Describe()
	}
	desc.Digest, desc.Size = sumDigest(w.hash), w.n
	return d.Push(ctx, desc, Content{Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(aside, offset, desc.Size-offset)), nil
	}})
}

// Tags lists the names of the index that are not digests.
func (d *Dir) Tags(context.Context) (tags []string, err error) {
	x, err := d.index()
	for _, m := range x.Manifests {
		if name := m.Annotations[ocispec.AnnotationRefName]; name != "" {
			tags = append(tags, name)
		}
	}
	return tags, err
}

// PushManifest writes a manifest or an index and, unless r is the zero Reference, tags it.
func (d *Dir) PushManifest(ctx context.Context, r Reference, desc ocispec.Descriptor, raw []byte) error {
	if _, err := d.Push(ctx, desc, Bytes(raw)); err != nil || r == (Reference{}) {
		return err
	}
	return d.Tag(ctx, r, desc)
}

// Tag enters an image in the index, instead of what had its name before; without a name if r is the zero Reference.
func (d *Dir) Tag(ctx context.Context, r Reference, desc ocispec.Descriptor) (err error) {
	// A blob that was here already may have been put there by a process that died before that was durable.
	if err := durable.SyncDir(d.blobs()); err != nil {
		return err
	}
	lock, err := flock.LockDir(ctx, d.path, flock.Exclusive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	x, err := d.index()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	x.Versioned, x.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageIndex
	name := indexName(r)
	kept := []ocispec.Descriptor{}
	for _, other := range x.Manifests {
		if other.Annotations[ocispec.AnnotationRefName] != name || name == "" && other.Digest != desc.Digest {
			kept = append(kept, other)
		}
	}
	one := ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: desc.Platform}
	if name != "" {
		one.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	}
	x.Manifests = append(kept, one)
	raw, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(d.path, ocispec.ImageIndexFile), raw, 0o644)
}
