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

	"github.com/forge-build/forge/image"
)

// A layerWriter writes a layer: its tar and, at the same time, the index that mounts it. Entries must come in a fixed
// order, parents before what is in them (the caller walks depth first, each directory by name), so that equal changes
// give equal bytes. Offsets are known from sizes, so contents are read behind the caller's back, in order; an error of
// that comes with a later call, Commit at the latest. Not safe for concurrent use.
type layerWriter struct {
	store *Store
	index *indexBuilder
	pipe  *tarPipe
	off   int64 // of the next header
}

// newLayerWriter begins a layer of s. The context ends its work.
func (s *Store) newLayerWriter(ctx context.Context) *layerWriter {
	return &layerWriter{store: s, index: newIndexBuilder(), pipe: newTarPipe(ctx, s.layout.Staging())}
}

// Add writes the entry at path (clean, relative, "." the root). open is called once, later, and only for regular files
// with a size; it must give at least e.Size bytes, and what it gives beyond is left out. It runs in another goroutine,
// beside others. Sockets are left out: they mean nothing once the process that listens is gone, and a tar cannot hold
// them.
func (w *layerWriter) Add(path string, e Entry, open func() (io.ReadCloser, error)) error {
	if e.Mode&modeType == modeSocket {
		return nil
	}
	if err := checkName(path); err != nil {
		return err
	}
	return w.add(path, &e, "", open)
}

// checkName refuses what would mean something else in a layer.
func checkName(path string) error {
	if _, base := splitPath(path); strings.HasPrefix(base, whiteoutPrefix) {
		return fmt.Errorf("%s: a name that begins with %s says in a layer that a file is removed", path, whiteoutPrefix)
	}
	if len(path) > maxPath {
		return fmt.Errorf("%.64s…: name of %d bytes is too long", path, len(path))
	}
	return nil
}

// add writes a header and leaves the content to the pipe.
func (w *layerWriter) add(path string, e *Entry, target string, open func() (io.ReadCloser, error)) error {
	header, err := appendTarHeader(w.pipe.headers[:0], path, e, target)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	w.pipe.headers = header
	w.off += int64(len(header))
	switch base := path[strings.LastIndexByte(path, '/')+1:]; {
	case target != "":
		err = w.index.link(path, target)
	case base == whiteoutOpaque:
		dir, _ := splitPath(path)
		err = w.index.opaque(dir)
	case strings.HasPrefix(base, whiteoutPrefix):
		err = w.index.hide(path[:len(path)-len(base)] + base[len(whiteoutPrefix):])
	default:
		err = w.index.add(path, e, w.off)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if e.Mode&modeType != modeRegular || target != "" || e.Size == 0 {
		return w.pipe.add(header, path, 0, nil)
	}
	w.off += align(e.Size, tarBlock)
	return w.pipe.add(header, path, e.Size, open)
}

// Link writes path as a hard link of target, a path that has been added.
func (w *layerWriter) Link(path, target string) error {
	if err := checkName(path); err != nil {
		return err
	}
	e, err := w.index.entry(target)
	if err != nil {
		return fmt.Errorf("%s: hard link to %s: %w", path, target, err)
	}
	return w.add(path, &e, target, nil)
}

// Whiteout hides path of the layers below.
func (w *layerWriter) Whiteout(path string) error {
	dir, base := splitPath(path)
	if path == "." || strings.HasPrefix(base, whiteoutPrefix) {
		return fmt.Errorf("%s: cannot be hidden", path)
	}
	return w.add(joinPath(dir, whiteoutPrefix+base), &Entry{Mode: modeRegular}, "", nil)
}

// Opaque hides what the layers below have in the directory path, which has been added just before.
func (w *layerWriter) Opaque(path string) error {
	return w.add(joinPath(path, whiteoutOpaque), &Entry{Mode: modeRegular}, "", nil)
}

// joinPath is the path of a name in a directory.
func joinPath(dir, base string) string {
	if dir == "." {
		return base
	}
	return dir + "/" + base
}

// Commit stages the tar and its index for their places and returns the layer. No sync.
func (w *layerWriter) Commit(ctx context.Context) (image.Layer, error) {
	file, sum, err := w.pipe.finish()
	if err != nil {
		return image.Layer{}, err
	}
	w.off += 2 * tarBlock
	diffID := digest.NewDigestFromBytes(digest.SHA256, sum[:])
	if err := w.commitTar(file, diffID); err != nil {
		return image.Layer{}, err
	}
	if err := w.store.commitIndex(w.index, w.off, sum); err != nil {
		return image.Layer{}, fmt.Errorf("layer %s: index: %w", diffID, err)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diffID, Size: w.off}
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
		if _, err := file.Write(w.pipe.small()); err != nil {
			return err
		}
	}
	return file.Commit(final)
}

// commitIndex stages the index of a tar, unless it is there.
func (s *Store) commitIndex(b *indexBuilder, tarSize int64, sum [sha256.Size]byte) error {
	final := s.snapshotPath(digest.NewDigestFromBytes(digest.SHA256, sum[:]), ".erofs")
	if _, err := s.layout.Staging().Lookup(final); err == nil {
		return nil
	}
	return s.writeIndex(b, tarSize, sum)
}

// writeIndex stages the index of a tar.
func (s *Store) writeIndex(b *indexBuilder, tarSize int64, sum [sha256.Size]byte) (err error) {
	file, err := s.layout.Staging().Create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := b.encode(file, tarSize, sum); err != nil {
		return err
	}
	return file.Commit(s.snapshotPath(digest.NewDigestFromBytes(digest.SHA256, sum[:]), ".erofs"))
}

// Close discards what was not committed.
func (w *layerWriter) Close() error { return w.pipe.close() }
