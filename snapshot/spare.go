package snapshot

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// A spare is a whole copy that a draft has left when it was committed. A draft that stands on the same layers, and perhaps more, begins
// with it: what differs is found by metadata and brought in order, so that the commands of a stage need one copy of its files and not one
// each.
type spare struct {
	dir    string        // that is deleted with it
	upper  *os.File      // the copy
	layers []image.Layer // that it is the sum of, lowest first, those with nothing in them left out
}

// maxSpares is how many copies wait for a draft: as many as stages are likely to be at work.
const maxSpares = 2

// spares are the copies of a store that wait for a draft.
type spares struct {
	mu   sync.Mutex // guards kept
	kept []*spare   // the oldest first
}

// take is the copy that has most of layers and nothing else, and how many of the topmost it is without; nil if there is none.
func (s *spares) take(layers []image.Layer) (found *spare, without int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := -1
	for i, sp := range s.kept {
		if rest, ok := sp.under(layers); ok && (at < 0 || rest < without) {
			at, without = i, rest
		}
	}
	if at < 0 {
		return nil, 0
	}
	found = s.kept[at]
	s.kept = slices.Delete(s.kept, at, at+1)
	return found, without
}

// under reports whether the copy has only what is in layers, and of how many of the topmost it has nothing.
func (sp *spare) under(layers []image.Layer) (without int, ok bool) {
	next := 0
	for i, l := range layers {
		switch {
		case next == len(sp.layers):
			return len(layers) - i, true
		case l.DiffID == sp.layers[next].DiffID:
			next++
		case !hasNothing(l):
			return 0, false
		}
	}
	return 0, next == len(sp.layers)
}

// hasNothing reports whether a layer, as drafts are committed as, is a tar without an entry.
func hasNothing(l image.Layer) bool {
	return l.Blob.Digest == l.DiffID && l.Blob.Size <= 2*layertar.Block
}

// put lets a copy wait, and returns the one that has waited longest if there are too many, else nil.
func (s *spares) put(sp *spare) (old *spare) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, sp)
	if len(s.kept) > maxSpares {
		old, s.kept = s.kept[0], s.kept[1:]
	}
	return old
}

// close closes all copies. Their directories are the session's.
func (s *spares) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, sp := range s.kept {
		errs = append(errs, sp.upper.Close())
	}
	s.kept = nil
	return errors.Join(errs...)
}

// takeSpare begins the draft with a copy that another has left, whose root it opens, and reports whether there was one.
func (d *Draft) takeSpare(ctx context.Context, layers []image.Layer, open func(fd int) (*os.File, error)) (bool, error) {
	sp, without := d.store.spares.take(layers)
	if sp == nil {
		return false, nil
	}
	known := map[uint64]copied{}
	u := newUnpacker(ctx, int(sp.upper.Fd()), d.store.rights())
	u.known, u.space = known, d.store.layout.CheckSpace
	r := refresher{u: u, below: d.below, newer: without}
	err := r.root()
	var root *os.File
	if err == nil {
		root, err = open(int(sp.upper.Fd()))
	}
	if err != nil {
		d.store.reaper.do(sp.discard) // as if it had not been there
		return false, ctx.Err()
	}
	d.dir, d.upper, d.root, d.known = sp.dir, sp.upper, root, known
	return true, nil
}

func (sp *spare) discard() error { return errors.Join(sp.upper.Close(), removeTree(sp.dir)) }

// leaveSpare leaves the copy of a committed draft to the next, instead of deleting it.
func (d *Draft) leaveSpare() error {
	var errs []error
	for _, f := range []*os.File{d.own, d.root} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if old := d.store.spares.put(d.spare); old != nil {
		d.store.reaper.do(old.discard)
	}
	d.own, d.root, d.upper, d.dir, d.spare = nil, nil, nil, "", nil
	return errors.Join(errs...)
}

// A refresher makes a copy of layers what a view shows: what has other metadata, or comes from a layer that the copy does not have, is
// written anew, and what is not in the view is removed. A file of the copy has the content of its layer if it has its metadata, since a
// commit has read or known it.
type refresher struct {
	u     *unpacker
	below *View
	newer int // how many of the topmost layers the copy is without
}

var errSpareRoot = errors.New("the root of the copy has other attributes")

func (r *refresher) root() error {
	e, err := r.below.Lstat(".")
	if err != nil {
		return err
	}
	fd, err := unix.Openat(r.u.root, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	same, err := r.same(fd, ".", &e)
	if err == nil && !same {
		err = errSpareRoot
	}
	if err == nil {
		err = r.dir(fd, ".", &e)
	}
	return errors.Join(err, closeFD(fd))
}

// dir brings in order what is in a directory, and its time.
func (r *refresher) dir(fd int, path string, dir *Entry) error {
	if err := r.u.ctx.Err(); err != nil {
		return err
	}
	names, err := readNames(fd, r.u.buf)
	if err != nil {
		return err
	}
	want, err := filetree.ReadDir(r.below, path)
	if err != nil {
		return err
	}
	self := func(name *string) string { return *name }
	err = filetree.Merge(names, want, self, filetree.EntryName, func(name *string, e *Entry) error {
		if e == nil {
			return removeAt(fd, *name)
		}
		return at(filetree.Join(path, e.Name), r.entry(fd, filetree.Join(path, e.Name), e, name))
	})
	if err != nil {
		return err
	}
	return futimes(fd, dir)
}

// entry brings a file in order. old is its name if the directory has something of that name.
func (r *refresher) entry(dir int, path string, e *Entry, old *string) error {
	isDir := e.Mode&unix.S_IFMT == unix.S_IFDIR
	if old != nil && (isDir || !r.isNewer(e)) {
		same, err := r.same(dir, e.Name, e)
		if err != nil {
			return err
		}
		if same && isDir {
			fd, err := unix.Openat(dir, e.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			return errors.Join(r.dir(fd, path, e), closeFD(fd))
		}
		if same {
			return nil
		}
	}
	if old != nil {
		if err := removeAt(dir, e.Name); err != nil {
			return err
		}
	}
	entry := unpackTree(r.below, path, *e)
	return r.u.entry(dir, path, &entry)
}

// isNewer reports whether a file is of a layer that the copy does not have.
func (r *refresher) isNewer(e *Entry) bool { return layerOf(e.Inode) < r.newer }

// same reports whether a file of the copy has the metadata of e. A time that differs is set: a commit may have set it for the layer. A
// file that is, is known as copied.
func (r *refresher) same(dir int, name string, e *Entry) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	here, err := readEntry(dir, name, &st)
	if err != nil {
		return false, err
	}
	if filetree.HasXattrs(here.Mode) {
		foreign := false // a process has set what no layer has
		here.Xattrs, err = readXattrs(dir, name, func(x string) bool {
			keep := filetree.KeepXattr(x)
			foreign = foreign || !keep && !strings.HasPrefix(x, "security.")
			return keep
		})
		if err != nil || foreign {
			return false, err
		}
	}
	r.u.rights.ids.restore(&here, e)
	late := !here.ModTime.Equal(e.ModTime)
	here.ModTime = e.ModTime
	regular := e.Mode&unix.S_IFMT == unix.S_IFREG
	if !sameEntry(&here, e) || regular && st.Nlink > 1 {
		return false, nil
	}
	if e.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true, nil // its time is set at last
	}
	if late {
		if err := unix.UtimesNanoAt(dir, name, times(e), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return false, err
		}
		if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return false, err
		}
	}
	if regular {
		r.u.known[st.Ino] = copyOf(e, &st)
	}
	return true, nil
}
