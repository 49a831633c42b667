package snapshot

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
)

// A part of a stack of layers is read and mounted as one.
type part struct {
	id     digest.Digest // a layer's diffID or, of layers that are merged, their chain ID with mergedPrefix: anything can have that as a diffID
	layers []image.Layer // lowest first: one, unless they are merged
}

const mergedPrefix = "merged "

// mergedPart is the part that layers are as one.
func mergedPart(layers []image.Layer) part { return part{mergedPrefix + image.ChainID(layers), layers} }

// alone is the part that is one layer.
func alone(layer image.Layer) part { return part{layer.DiffID, []image.Layer{layer}} }

// openLayers are the parts that views of a Store read, each open once however many views it is in: a build has a view for
// each step, of all layers below it.
type openLayers struct {
	mu sync.Mutex
	m  map[digest.Digest]*openLayer // guarded by mu
}

// An openLayer is a part that at least one view reads. Its index never changes. Safe for concurrent use.
type openLayer struct {
	part
	store   *Store
	holders int // guarded by openLayers.mu

	mu    sync.Mutex // guards opening and closing
	index *erofs.Metadata
	root  erofs.Inode
	sums  *sumsFile
	tar   func(k int) (io.ReaderAt, error) // opens that of a layer once
	close func() error
}

// openLayer returns a part, opening it unless that has been done. Its tars wait until a content is asked for. It is given
// back by release.
func (s *Store) openLayer(ctx context.Context, p part) (*openLayer, error) {
	s.open.mu.Lock()
	l := s.open.m[p.id]
	if l == nil {
		l = &openLayer{store: s, part: part{p.id, slices.Clone(p.layers)}} // of the view's, which each step of a build has anew, nothing is kept
		if s.open.m == nil {
			s.open.m = make(map[digest.Digest]*openLayer)
		}
		s.open.m[p.id] = l
	}
	l.holders++
	s.open.mu.Unlock()

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.index != nil {
		return l, nil
	}
	if err := l.open(ctx); err != nil {
		s.forget(l)
		return nil, err
	}
	return l, nil
}

// open reads the index.
func (l *openLayer) open(ctx context.Context) (err error) {
	x, err := l.store.index(ctx, l.part)
	if err != nil {
		return err
	}
	if l.root, err = x.Root(); err != nil {
		return errors.Join(err, x.Close())
	}
	tars := openTars{store: l.store, part: l.part, files: make([]*os.File, len(l.layers))}
	ctx = context.WithoutCancel(ctx)
	l.tar = func(k int) (io.ReaderAt, error) { return tars.get(ctx, k) }
	l.index, l.sums = x, l.store.newSums(l.id, x)
	l.close = func() error {
		_ = l.sums.save() // lost digests cost time, nothing else
		return errors.Join(x.Close(), tars.close())
	}
	return nil
}

// openTars are the tars of a part that somebody has read from. Safe for concurrent use.
type openTars struct {
	store *Store
	part

	mu    sync.Mutex
	files []*os.File // nil of those that nobody has read from
}

// get opens the tar of a layer, unless that has been done, or returns what takes its place.
func (t *openTars) get(ctx context.Context, k int) (io.ReaderAt, error) {
	layer := t.layers[k]
	if lent := t.store.lentFiles(layer.DiffID); lent != nil {
		return lent.from, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files[k] != nil {
		return t.files[k], nil
	}
	f, err := t.store.layout.OpenTar(ctx, layer)
	if err != nil {
		return nil, err
	}
	t.files[k] = f
	return f, nil
}

func (t *openTars) close() error {
	var errs []error
	for _, f := range t.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
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
	delete(s.open.m, l.id)
	return true
}
