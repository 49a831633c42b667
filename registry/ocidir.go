package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
)

// An ociDir is an OCI image layout, as any tool makes them, in a directory.
type ociDir struct{ path string }

func (o ociDir) blob(d ocispec.Descriptor) string {
	return filepath.Join(o.path, ocispec.ImageBlobsDir, "sha256", d.Digest.Encoded())
}

// Fetch opens a blob.
func (o ociDir) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := image.CheckDescriptor(d); err != nil {
		return nil, err
	}
	f, err := durable.OpenRegular(o.blob(d))
	if err != nil {
		return nil, err
	}
	return verified(f, d), nil
}

// Exists tells whether a blob is there in its size.
func (o ociDir) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	if err := image.CheckDescriptor(d); err != nil {
		return false, err
	}
	st, err := os.Stat(o.blob(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && st.Size() == d.Size, err
}

// Push stores a blob durably.
func (o ociDir) Push(_ context.Context, d ocispec.Descriptor, r io.Reader) (err error) {
	if err := image.CheckDescriptor(d); err != nil {
		return err
	}
	f, err := durable.Create(o.blob(d), 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, image.Verify(r, d), make([]byte, 256<<10)); err != nil {
		return err
	}
	return f.Commit()
}

func (o ociDir) index() (x ocispec.Index, err error) {
	path := filepath.Join(o.path, ocispec.ImageIndexFile)
	raw, err := readSmall(path)
	if err != nil {
		return x, err
	}
	if raw == nil {
		return x, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return image.ParseIndex(raw, ocispec.MediaTypeImageIndex)
}

func readDir(e Endpoint) (*reading, error) {
	o := ociDir{e.Path}
	x, err := o.index()
	if err != nil {
		return nil, err
	}
	root, err := pick(x, e.Tag)
	return &reading{Fetcher: o, root: root, close: func() error { return nil }}, err
}

// writeDir makes the directory a layout, if it is not yet one.
func writeDir(e Endpoint) (*writing, error) {
	o := ociDir{e.Path}
	if err := os.MkdirAll(filepath.Join(e.Path, ocispec.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return nil, err
	}
	header := filepath.Join(e.Path, ocispec.ImageLayoutFile)
	if _, err := os.Stat(header); errors.Is(err, fs.ErrNotExist) {
		if err := durable.WriteFile(header, layoutHeader(), 0o644); err != nil {
			return nil, err
		}
	}
	return &writing{
		Pusher: o,
		finish: func(ctx context.Context, root ocispec.Descriptor) error { return o.name(ctx, root, e.Tag) },
		close:  func() error { return nil },
	}, nil
}

func layoutHeader() []byte {
	return fmt.Appendf(nil, `{"imageLayoutVersion": %q}`, ocispec.ImageLayoutVersion)
}

// name enters root in the index, instead of what had its tag before.
func (o ociDir) name(ctx context.Context, root ocispec.Descriptor, tag string) error {
	// A blob that was here already may have been put there by somebody who died before that was durable.
	if err := durable.SyncDir(filepath.Join(o.path, ocispec.ImageBlobsDir, "sha256")); err != nil {
		return err
	}
	lock, err := flock.LockDir(ctx, o.path, flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	x, err := o.index()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	x.Versioned = specs.Versioned{SchemaVersion: 2}
	x.MediaType = ocispec.MediaTypeImageIndex
	kept := []ocispec.Descriptor{}
	for _, d := range x.Manifests {
		name := d.Annotations[ocispec.AnnotationRefName]
		if name == tag && (tag != "" || d.Digest == root.Digest) {
			continue
		}
		kept = append(kept, d)
	}
	x.Manifests = append(kept, plainRoot(root, tag))
	raw, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(o.path, ocispec.ImageIndexFile), raw, 0o644)
}
