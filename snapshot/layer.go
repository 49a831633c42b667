package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// A layerWriter writes a layer: its tar and, at the same time, the index that mounts it. Entries must come in a fixed
// order, parents before what is in them (the caller walks depth first, each directory by name), so that equal changes
// give equal bytes. Offsets are known from sizes, so contents are read behind the caller's back, in order; an error of
// that comes with a later call, Commit at the latest. Not safe for concurrent use.
type layerWriter struct {
	store *Store
	spill *filetree.Spill
	index *erofs.Builder
	tar   *layertar.Writer
}

// newLayerWriter begins a layer of s. The context ends its work.
func (s *Store) newLayerWriter(ctx context.Context) *layerWriter {
	spill := s.spill()
	return &layerWriter{store: s, spill: spill, index: erofs.NewBuilder(spill), tar: layertar.NewWriter(ctx, s.layout.Staging())}
}

// Add writes the entry at path (clean, relative, "." the root). open is called once, later, and only for regular files
// with a size; it must give at least e.Size bytes, and what it gives beyond is left out. It runs in another goroutine,
// beside others. Sockets are left out: they mean nothing once the process that listens is gone, and a tar cannot hold
// them.
func (w *layerWriter) Add(path string, e Entry, open func() (io.ReadCloser, error)) error {
	if e.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	if err := checkName(path); err != nil {
		return err
	}
	return w.add(path, &e, "", open)
}

// checkName refuses what would mean something else in a layer.
func checkName(path string) error {
	if _, base := filetree.Split(path); strings.HasPrefix(base, layertar.WhiteoutPrefix) {
		return fmt.Errorf("%s: a name that begins with %s says in a layer that a file is removed", path, layertar.WhiteoutPrefix)
	}
	return checkLength(path)
}

func checkLength(path string) error {
	if len(path) > filetree.MaxPath {
		return fmt.Errorf("%.64s…: name of %d bytes is too long", path, len(path))
	}
	return nil
}

// add writes an entry to the tar and the index.
func (w *layerWriter) add(path string, e *Entry, target string, open func() (io.ReadCloser, error)) error {
	offset, err := w.tar.Add(path, e, target, open)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if dir, base := filetree.Split(path); target != "" {
		err = w.index.Link(path, target)
	} else if hidden, ok := strings.CutPrefix(base, layertar.WhiteoutPrefix); ok {
		err = w.index.Hide(filetree.Join(dir, hidden))
	} else {
		err = w.index.Add(path, e, offset)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Link writes path as a hard link of target, a path that has been added.
func (w *layerWriter) Link(path, target string) error {
	if err := checkName(path); err != nil {
		return err
	}
	e, err := w.index.Entry(target)
	if err != nil {
		return fmt.Errorf("%s: hard link to %s: %w", path, target, err)
	}
	return w.add(path, &e, target, nil)
}

// Whiteout hides path of the layers below.
func (w *layerWriter) Whiteout(path string) error {
	if path == "." {
		return errors.New("the root cannot be hidden")
	}
	if err := checkName(path); err != nil {
		return err
	}
	dir, base := filetree.Split(path)
	return w.add(filetree.Join(dir, layertar.WhiteoutPrefix+base), &Entry{Mode: unix.S_IFREG}, "", nil)
}

// Commit stages the tar and its index for their places and returns the layer. No sync.
func (w *layerWriter) Commit(ctx context.Context) (image.Layer, error) {
	file, sum, err := w.tar.Finish()
	if err != nil {
		return image.Layer{}, err
	}
	diffID := digest.NewDigestFromBytes(digest.SHA256, sum[:])
	if err := w.commitTar(file, diffID); err != nil {
		return image.Layer{}, err
	}
	if err := w.store.commitIndex(w.index, w.tar.Size(), sum); err != nil {
		return image.Layer{}, fmt.Errorf("layer %s: index: %w", diffID, err)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diffID, Size: w.tar.Size()}
	return image.Layer{Blob: desc, DiffID: diffID}, nil
}

// commitTar names the tar's place, unless the same tar is there.
func (w *layerWriter) commitTar(file *image.StagedFile, diffID digest.Digest) (err error) {
	layout, final := w.store.layout, w.store.layout.BlobPath(diffID)
	if _, err := layout.Staging().Lookup(final); err == nil {
		return nil
	}
	if file == nil { // a small layer waits in memory for whether it is new
		if file, err = layout.Staging().Create(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		if _, err := file.Write(w.tar.Small()); err != nil {
			return err
		}
	}
	return file.Commit(final)
}

// commitIndex stages the index of a tar, unless it is there.
func (s *Store) commitIndex(b *erofs.Builder, tarSize int64, sum [sha256.Size]byte) error {
	final := s.snapshotPath(digest.NewDigestFromBytes(digest.SHA256, sum[:]), ".erofs")
	if _, err := s.layout.Staging().Lookup(final); err == nil {
		return nil
	}
	return s.writeIndex(b, tarSize, sum)
}

// writeIndex stages the index of a tar.
func (s *Store) writeIndex(b *erofs.Builder, tarSize int64, sum [sha256.Size]byte) (err error) {
	file, err := s.layout.Staging().Create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := b.Encode(file, erofs.Tar{DiffID: sum, Size: tarSize}); err != nil {
		return err
	}
	return file.Commit(s.snapshotPath(digest.NewDigestFromBytes(digest.SHA256, sum[:]), ".erofs"))
}

// Close discards what was not committed.
func (w *layerWriter) Close() error { return errors.Join(w.tar.Close(), w.spill.Close()) }

// spill keeps lists of what may be millions of files in files of the store. They have no name, so that nothing is left of them
// however this process ends.
func (s *Store) spill() *filetree.Spill {
	return filetree.NewSpill(s.Nameless)
}
