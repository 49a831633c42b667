package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
)

// ensureIndex opens the index of a layer, making it from the tar if it is missing. fs.ErrNotExist if the layer is not here.
// Of several that make it at the same time, each stages the same bytes.
func (s *Store) ensureIndex(ctx context.Context, layer image.Layer) (*os.File, error) {
	if err := image.CheckDigest(layer.DiffID); err != nil {
		return nil, err
	}
	if l := s.lentFiles(layer.DiffID); l != nil {
		return reopen(l.index)
	}
	final := s.snapshotPath(layer.DiffID, ".erofs")
	f, err := s.layout.Staging().Open(final)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := s.makeIndex(ctx, layer); err != nil {
		return nil, err
	}
	return s.layout.Staging().Open(final)
}

// makeIndex stages the index of a layer, in place of the one that may be there.
func (s *Store) makeIndex(ctx context.Context, layer image.Layer) error {
	x, err := s.readLayer(ctx, layer)
	if err != nil {
		return err
	}
	sum, err := sumOf(layer.DiffID)
	if err == nil {
		err = s.writeIndex(x.index, x.pos, sum)
	}
	return errors.Join(err, x.Close())
}

// readLayer makes the index of a layer from its tar. Close it.
func (s *Store) readLayer(ctx context.Context, layer image.Layer) (*Indexer, error) {
	tar, err := s.layout.OpenTar(ctx, layer)
	if err != nil {
		return nil, err
	}
	defer tar.Close()
	info, err := tar.Stat()
	if err != nil {
		return nil, err
	}
	x := s.Indexer()
	if err = x.readHeaders(ctx, tar, info.Size()); err == nil {
		err = x.finish()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("layer %s: %w", layer.DiffID, err), x.Close())
	}
	return x, nil
}

// openIndex opens the index of a part. That of a layer is made if it is missing; of layers that are merged it is fs.ErrNotExist.
func (s *Store) openIndex(ctx context.Context, p part) (*os.File, error) {
	if len(p.layers) > 1 {
		return os.Open(s.snapshotPath(p.id, mergedSuffix))
	}
	return s.ensureIndex(ctx, p.layers[0])
}

// index maps the index of a part. A damaged one of a layer is made anew: it is nothing that the tar does not tell.
func (s *Store) index(ctx context.Context, p part) (*erofs.Metadata, error) {
	x, err := s.mapIndex(ctx, p)
	if len(p.layers) > 1 || !errors.Is(err, erofs.ErrDamaged) {
		return x, err
	}
	if err := s.makeIndex(ctx, p.layers[0]); err != nil {
		return nil, err
	}
	return s.mapIndex(ctx, p)
}

func (s *Store) mapIndex(ctx context.Context, p part) (*erofs.Metadata, error) {
	f, err := s.openIndex(ctx, p)
	if err != nil {
		return nil, err
	}
	x, err := erofs.Open(f)
	if cerr := f.Close(); cerr != nil {
		return nil, cerr
	}
	return x, err
}
