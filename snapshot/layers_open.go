package snapshot

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
)

// openLayers are the layers that views of a Store read, each open once however many views it is in: a build has a view for
// each step, of all layers below it.
type openLayers struct {
	mu sync.Mutex
	m  map[digest.Digest]*openLayer // guarded by mu
}

// An openLayer is a layer that at least one view reads. Its index never changes; Safe for concurrent use.
type openLayer struct {
	store   *Store
	diffID  digest.Digest
	holders int // guarded by openLayers.mu

	mu    sync.Mutex // guards opening and closing
	index *erofs.Metadata
	root  erofs.Inode
	sums  *sumsFile
	tar   func() (io.ReaderAt, error) // opens it once
	close func() error
}

// openLayer returns a layer, opening it unless that has been done. Its tar waits until a content is asked for. It is given
// back by release.
func (s *Store) openLayer(ctx context.Context, layer image.Layer) (*openLayer, error) {
	s.open.mu.Lock()
	l := s.open.m[layer.DiffID]
	if l == nil {
		l = &openLayer{store: s, diffID: layer.DiffID}
		if s.open.m == nil {
			s.open.m = make(map[digest.Digest]*openLayer)
		}
		s.open.m[layer.DiffID] = l
	}
	l.holders++
	s.open.mu.Unlock()

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.index != nil {
		return l, nil
	}
	if err := l.open(ctx, layer); err != nil {
		s.forget(l)
		return nil, err
	}
	return l, nil
}

// open reads the index.
func (l *openLayer) open(ctx context.Context, layer image.Layer) (err error) {
	x, err := l.store.index(ctx, layer)
	if err != nil {
		return err
	}
	if l.root, err = x.Root(); err != nil {
		return errors.Join(err, x.Close())
	}
	ctx = context.WithoutCancel(ctx)
	var opened *os.File
	l.tar = sync.OnceValues(func() (io.ReaderAt, error) {
		if lent := l.store.lentFiles(layer.DiffID); lent != nil {
			return lent.from, nil
		}
		var err error
		opened, err = l.store.layout.OpenTar(ctx, layer)
		return opened, err
	})
	l.index, l.sums = x, l.store.newSums(layer.DiffID, x)
	l.close = func() error {
		_ = l.sums.save() // lost digests cost time, nothing else
		err := x.Close()
		if opened != nil {
			err = errors.Join(err, opened.Close())
		}
		return err
	}
	return nil
}

// release gives a layer back. The last to do so closes it.
func (l *openLayer) release() error {
	if !l.store.forget(l) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.close()
}

// forget counts a holder out, and reports whether it was the last.
func (s *Store) forget(l *openLayer) bool {
	s.open.mu.Lock()
	defer s.open.mu.Unlock()
	if l.holders--; l.holders > 0 {
		return false
	}
	delete(s.open.m, l.diffID)
	return true
}
