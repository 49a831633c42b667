package snapshot

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Commit writes the changes as a layer, staged. What is the same below, its time and content too, is left out, so that the
// layer depends on what the trees are and not on how one came from the other; names that are gone become whiteouts,
// and directories on the way to a change are written as they are. Times after epoch are set to it if epoch is not nil.
func (s *Store) Commit(ctx context.Context, c *Changes, epoch *time.Time) (layer image.Layer, err error) {
	w := s.newLayerWriter(ctx)
	defer func() { err = errors.Join(err, w.Close()) }()
	k := committer{Changes: c, changeWriter: changeWriter{layer: w}, ctx: ctx, epoch: epoch, kids: c.names.Children()}
	k.findLinks()
	if err := k.root(); err != nil {
		return image.Layer{}, err
	}
	return w.Commit(ctx)
}

// A committer writes changes.
type committer struct {
	*Changes
	changeWriter
	ctx   context.Context
	epoch *time.Time

	kids filetree.Children
	next []int32 // by name: the next one of its file, 0 ends; nil if no file has several
}

// Flags of a changedFile.
const (
	hasLinks    = 1 << iota // had further names
	isJudged                // isUnchanged is known
	isUnchanged             // all its names are one file below, too, that is the same
)

// findLinks finds the names of files that may have several: the first of each, and from it the next.
func (k *committer) findLinks() {
	if !k.linked {
		return
	}
	for i := range k.files {
		f := &k.files[i]
		f.first, f.written, f.flags = 0, 0, f.flags&hasLinks
	}
	k.next = filetree.Zeros[int32](k.spill, len(k.names.List))
	for id := int32(len(k.next) - 1); id > 0; id-- {
		if !k.names.Reachable(id) || k.stateOf(id) != put || k.fileOf(id).flags&hasLinks == 0 {
			continue
		}
		f := k.fileOf(id)
		k.next[id], f.first = f.first, id
	}
}

// isLinked reports whether a file has several names.
func (k *committer) isLinked(f *changedFile) bool { return f.first != 0 && k.next[f.first] != 0 }

// root writes everything.
func (k *committer) root() error {
	below, err := k.below.Lstat(".")
	if err != nil {
		return err
	}
	e := below
	if k.stateOf(0) == put {
		e = k.clamp(k.entry(0))
	}
	// A root that stays is not written at all: it has to be in no layer.
	d := &wayDir{path: ".", entry: e, whole: k.isOpaque(0), done: true}
	k.enter(d)
	if k.stateOf(0) == put && !sameEntry(&e, &below) {
		if err := k.layer.Add(".", e, nil); err != nil {
			return err
		}
	}
	return k.dir(0, d, &below)
}

// clamp applies the epoch.
func (k *committer) clamp(e Entry) Entry {
	if k.epoch != nil && e.ModTime.After(*k.epoch) {
		e.ModTime = *k.epoch
	}
	return e
}

// dir writes what changes in a directory, in order of names. below is the directory that lies below, or nil.
func (k *committer) dir(id int32, d *wayDir, below *Entry) error {
	if err := k.ctx.Err(); err != nil {
		return err
	}
	var gone []Entry // names below that are not seen, unless they are put again
	if d.whole && below != nil {
		var err error
		if gone, err = filetree.ReadDir(k.below, d.path); err != nil {
			return err
		}
	}
	kids := k.kids.Of(id)
	slices.SortFunc(kids, func(a, b int32) int { return strings.Compare(k.names.Base(a), k.names.Base(b)) })
	name := func(kid *int32) string { return k.names.Base(*kid) }
	return filetree.Merge(kids, gone, name, filetree.EntryName, func(kid *int32, under *Entry) error {
		if kid == nil {
			return k.whiteout(filetree.Join(d.path, under.Name))
		}
		at := k.join(d.path, *kid)
		if under == nil && below != nil && !d.whole {
			e, err := k.below.Lstat(at)
			if err == nil {
				under = &e
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return k.change(*kid, d, at, under)
	})
}

// change writes one change of a directory.
func (k *committer) change(id int32, in *wayDir, path string, below *Entry) error {
	switch {
	case k.stateOf(id) == removed:
		if below == nil {
			return nil
		}
		return k.whiteout(path)
	case k.isDirectory(id):
		if below != nil && below.Mode&unix.S_IFMT != unix.S_IFDIR {
			below = nil
		}
		var e Entry
		if k.stateOf(id) == put {
			e = k.clamp(k.entry(id))
		} else if below != nil { // else its directory is gone, and it with it
			e = *below
		}
		d := &wayDir{path: path, entry: e, whole: in.whole || k.isOpaque(id)}
		k.enter(d)
		defer k.leave()
		if k.stateOf(id) == put && (below == nil || !sameEntry(&e, below)) {
			if err := k.flush(); err != nil {
				return err
			}
		}
		return k.dir(id, d, below)
	}
	same, err := k.unchanged(id, path, below)
	if err != nil || same {
		return err
	}
	return k.add(id, path)
}

// add writes a file, or a link to it if it has been written under another name.
func (k *committer) add(id int32, path string) error {
	if err := k.flush(); err != nil {
		return err
	}
	f := k.fileOf(id)
	if k.isLinked(f) {
		if f.written != 0 {
			return k.layer.Link(path, k.pathOf(f.written))
		}
		f.written = id
	}
	var open func() (io.ReadCloser, error)
	if f.mode&unix.S_IFMT == unix.S_IFREG {
		file := k.names.List[id].File
		open = func() (io.ReadCloser, error) { return k.openFile(file, path) }
	}
	return k.layer.Add(path, k.clamp(k.entry(id)), open)
}

// unchanged reports whether a file is as it is below, content and all.
func (k *committer) unchanged(id int32, path string, below *Entry) (bool, error) {
	f := k.fileOf(id)
	if !k.isLinked(f) {
		return k.sameFile(id, path, below)
	}
	if f.flags&isJudged != 0 {
		return f.flags&isUnchanged != 0, nil
	}
	f.flags |= isJudged
	inode := uint64(0)
	for member := f.first; member != 0; member = k.next[member] {
		path := k.pathOf(member)
		below, err := k.below.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if member != f.first && below.Inode != inode {
			return false, nil
		}
		inode = below.Inode
	}
	same, err := k.sameFile(id, path, below)
	if same {
		f.flags |= isUnchanged
	}
	return same, err
}

// sameFile compares a file with what lies below: first what costs nothing.
func (k *committer) sameFile(id int32, path string, below *Entry) (bool, error) {
	if below == nil {
		return false, nil
	}
	e := k.clamp(k.entry(id))
	if !sameEntry(&e, below) || e.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return false, nil
	}
	if e.Mode&unix.S_IFMT != unix.S_IFREG || e.Size == 0 {
		return true, nil
	}
	a, err := k.openFile(k.names.List[id].File, path)
	if err != nil {
		return false, err
	}
	b, err := k.below.Open(path)
	if err != nil {
		return false, errors.Join(err, a.Close())
	}
	return k.same(a, b, e.Size)
}
