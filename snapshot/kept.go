package snapshot

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/layertar"
)

// A Kept is what was written in the directory of a draft that is kept, see [DraftOptions]. It is read without a mount, so that
// a process may have the draft mounted, and write to it, meanwhile. Mount points that were made for a container are not in it.
// Not safe for concurrent use.
type Kept struct {
	store *Store
	below *View
	upper *os.File          // nil: nothing was written
	known map[uint64]copied // of a whole copy, else nil; empty, as another process has copied it
	made  *madeMountpoints
}

// OpenKept opens what was written in dir on top of layers.
func (s *Store) OpenKept(ctx context.Context, layers []image.Layer, dir string) (_ *Kept, err error) {
	below, err := s.View(ctx, layers)
	if err != nil {
		return nil, err
	}
	k := &Kept{store: s, below: below}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Close())
		}
	}()
	k.upper, err = openDirectory(filepath.Join(dir, "upper"))
	if errors.Is(err, fs.ErrNotExist) {
		k.upper, err = openDirectory(filepath.Join(dir, "root"))
		k.known = map[uint64]copied{}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, err
	}
	k.made, err = readMountpoints(dir)
	return k, err
}

// Close gives back what is open.
func (k *Kept) Close() error {
	err := k.below.Close()
	if k.upper != nil {
		err = errors.Join(err, k.upper.Close())
	}
	return err
}

func (k *Kept) differ(ctx context.Context) *differ {
	return &differ{ctx: ctx, below: k.below, rights: k.store.rights(), known: k.known, live: true, made: k.made}
}

// Commit writes what changed as a layer, as [Draft.Commit] does; changed is false, and there is no layer, if nothing did. A
// file that a process shortens or removes while it is read is an error; one that is removed before is not in the layer.
func (k *Kept) Commit(ctx context.Context) (layer image.Layer, changed bool, err error) {
	if k.upper == nil {
		return layer, false, nil
	}
	layer, err = k.store.commitDiff(k.differ(ctx), k.upper)
	if err != nil || layer.Blob.Size <= 2*layertar.Block { // the end of a tar, and nothing else
		return image.Layer{}, false, err
	}
	return layer, true, nil
}

// A Change is a path that the layers below have otherwise.
type Change struct {
	Kind byte   // docker's: 'A' is added, 'C' changed or something in it is, 'D' deleted
	Path string // absolute
}

// Diff lists what changed, in order of paths. Of a directory that is deleted, only itself is listed.
func (k *Kept) Diff(ctx context.Context) ([]Change, error) {
	if k.upper == nil {
		return nil, nil
	}
	l := lister{below: k.below}
	f := k.differ(ctx)
	f.layer, f.listed = &l, true
	defer f.close()
	if err := f.diff(int(k.upper.Fd())); err != nil {
		return nil, err
	}
	slices.SortFunc(l.list, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return l.list, nil
}

// A lister lists changes in the place of writing them.
type lister struct {
	below *View
	list  []Change
}

func (l *lister) Add(path string, _ Entry, _ func() (io.ReadCloser, error)) error {
	kind := byte('C')
	_, err := l.below.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		kind = 'A'
	} else if err != nil {
		return err
	}
	l.add(kind, path)
	return nil
}

func (l *lister) Link(path, _ string) error { return l.Add(path, Entry{}, nil) }

func (l *lister) Whiteout(path string) error {
	l.add('D', path)
	return nil
}

func (l *lister) add(kind byte, path string) {
	if path == "." {
		path = ""
	}
	l.list = append(l.list, Change{kind, "/" + path})
}
