package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Each layer that is mounted takes the kernel a quarter of a millisecond. So an image that is run again and again is mounted as one: what its
// layers sum up to is written once more as an index, snapshots/<chain ID>.merged, whose devices are the tars of all of them. It is derived
// and not synced: one that is missing or damaged is no loss, and every prune removes it.
const mergedSuffix = ".merged"

// The merged index of an image is written when a container of it is started for the first time if that takes no longer than what it saves at
// each start, else when one is started again, if it takes no longer than what it saves at mergeStarts of them.
const (
	mergeFiles  = 50 // take as long to be written as one layer to be mounted
	mergeStarts = 50
)

// viewStack is View for layers that are going to be mounted for a container: one index, if they have been merged.
func (s *Store) viewStack(ctx context.Context, layers []image.Layer) (*View, error) {
	if v := s.viewMerged(ctx, layers); v != nil {
		return v, nil
	}
	return s.View(ctx, layers)
}

// viewStarted is viewStack for a container that is started. It merges the layers if that is due.
func (s *Store) viewStarted(ctx context.Context, layers []image.Layer) (*View, error) {
	if v := s.viewMerged(ctx, layers); v != nil {
		return v, nil
	}
	v, err := s.View(ctx, layers)
	if err != nil || !s.canMerge(layers) {
		return v, err
	}
	turn := s.mergeTurn(v, layers)
	if turn == nil {
		return v, nil
	}
	defer turn.Close() //nolint:errcheck // what is in it is not worth an error
	err = s.merge(ctx, v, layers)
	if ctx.Err() != nil {
		return nil, errors.Join(context.Cause(ctx), v.Close())
	}
	if err == nil {
		if merged := s.viewMerged(ctx, layers); merged != nil {
			if err := v.Close(); err != nil {
				return nil, errors.Join(err, merged.Close())
			}
			return merged, nil
		}
	}
	_, _ = turn.WriteString("failed\n") // these are mounted one by one
	return v, nil
}

// canMerge reports whether layers can be mounted as one.
func (s *Store) canMerge(layers []image.Layer) bool {
	if len(layers) < 2 {
		return false
	}
	for _, layer := range layers {
		if s.lentFiles(layer.DiffID) != nil {
			return false
		}
	}
	kind, _ := s.Kind()
	return kind == EROFS
}

// viewMerged reads the merged index of layers, which it has mounted; nil if there is none, or it is of no use.
func (s *Store) viewMerged(ctx context.Context, layers []image.Layer) *View {
	if !s.canMerge(layers) {
		return nil
	}
	p := mergedPart(layers)
	v, err := s.viewParts(ctx, []part{p})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		if _, err = s.mountPart(ctx, p); err == nil {
			return v
		}
		_ = v.Close() // nothing was read from it
	}
	if ctx.Err() == nil {
		_ = os.Remove(s.snapshotPath(p.id, mergedSuffix))
	}
	return nil
}

// mergeTurn returns the file <chain ID>.started, locked, if it is worth it to merge the layers of a container that is started, and nobody else
// does. The file says that one was started before and, if there is anything in it, that to merge has failed.
func (s *Store) mergeTurn(v *View, layers []image.Layer) *os.File {
	files, gain := uint64(0), uint64(len(layers)-1)*mergeFiles
	for _, l := range v.layers {
		files += l.index.Files()
	}
	if files > gain*mergeStarts {
		return nil
	}
	path := s.snapshotPath(image.ChainID(layers), ".started")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	first := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil
	}
	info, err := f.Stat()
	if err != nil || info.Size() > 0 || first && files > gain || flock.Try(f, flock.Exclusive) != nil {
		_ = f.Close() // nothing was written
		return nil
	}
	return f
}

// ForgetMerged removes all merged indexes: they are made again of the indexes of their layers.
func (s *Store) ForgetMerged() error {
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), mergedSuffix) {
			if removeErr := os.Remove(filepath.Join(s.dir, e.Name())); !errors.Is(removeErr, fs.ErrNotExist) {
				err = errors.Join(err, removeErr)
			}
		}
	}
	return err
}

// merge writes the index of what layers sum up to. The view is of the same layers.
func (s *Store) merge(ctx context.Context, v *View, layers []image.Layer) (err error) {
	spill := s.spill()
	defer func() { err = errors.Join(err, spill.Close()) }()
	m := merger{view: v, index: erofs.NewBuilder(spill), links: map[uint64]string{}}
	if err := filetree.Walk(ctx, v, ".", m.add); err != nil {
		return err
	}
	tars := make([]erofs.Tar, len(layers))
	for k := range layers {
		of, err := v.layers[len(layers)-1-k].index.Tars()
		if err != nil {
			return err
		}
		tars[k] = of[0]
	}
	chain := image.ChainID(layers)
	id, err := sumOf(chain)
	if err != nil {
		return err
	}
	file, err := s.layout.Staging().Create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := m.index.EncodeMerged(file, id, tars); err != nil {
		return err
	}
	return durable.Move(file.Name(), s.snapshotPath(chain, mergedSuffix))
}

// A merger enters the files of a view into one index.
type merger struct {
	view  *View
	index *erofs.Builder
	links map[uint64]string // the first name of each file that has several, by inode
}

func (m *merger) add(path string, e *Entry, _ *filetree.Sum) error {
	if e.Mode&unix.S_IFMT != unix.S_IFDIR && e.Nlink > 1 {
		if first, ok := m.links[e.Inode]; ok {
			return m.index.Link(path, first)
		}
		m.links[e.Inode] = path
	}
	if e.Mode&unix.S_IFMT != unix.S_IFREG || e.Size == 0 {
		return m.index.Add(path, e, 0)
	}
	layer := layerOf(e.Inode)
	x := m.view.layers[layer].index
	i, err := x.Inode(e.Inode & (1<<32 - 1))
	if err != nil {
		return err
	}
	extents, _, err := x.Extents(&i)
	if err != nil {
		return err
	}
	m.index.Tar = uint16(len(m.view.layers) - 1 - layer)
	if len(extents) == 1 && extents[0].At >= 0 {
		return m.index.Add(path, e, extents[0].At)
	}
	data, pieces, err := sparsePieces(extents)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return m.index.AddSparse(path, e, data, pieces)
}

// sparsePieces turns the extents of a sparse file into where its data begins in the tar, in which the pieces lie one after the other, and
// where in the file they belong.
func sparsePieces(extents []filetree.Extent) (data int64, pieces []filetree.Extent, err error) {
	at, next := int64(0), int64(-1)
	for _, e := range extents {
		if e.At >= 0 {
			if next < 0 {
				data, next = e.At, e.At
			}
			if e.At != next {
				return 0, nil, errors.New("pieces of a sparse file are not in order")
			}
			pieces = append(pieces, filetree.Extent{At: at, Size: e.Size})
			next += e.Size
		}
		at += e.Size
	}
	return data, pieces, nil
}
