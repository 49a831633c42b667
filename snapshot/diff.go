package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// A differ writes what a directory changes of a tree. The directory is overlayfs's upper one, or a whole copy; the layer
// that comes out is the same: it depends on the two trees alone, and not on how one came from the other. So a directory
// that was deleted and made again is compared as any other, and no layer has an opaque directory.
//
// Whoever wrote the directory is not trusted: it is walked by descriptors, and no link is followed.
type differ struct {
	changeWriter
	ctx    context.Context
	below  *View
	epoch  *time.Time
	rights rights
	known  map[uint64]copied // of a whole copy, else nil: the files as they were copied, by inode
	live   bool              // a process may be writing: what is gone when it is looked at is left out
	listed bool              // contents are of no interest
	made   *madeMountpoints  // that are not in the layer; nil if there are none

	lost    noted // files whose POSIX ACLs are not in the layer: no builder writes them, no runtime would restore them
	scratch scratchFile
	tidy    bool // make the directory what unpacking the layer would give
	inexact bool // which it is not

	links map[uint64]string
	held  []*heldDir // directories that contents are still to be read from
}

// A diffDir is a directory being compared.
type diffDir struct {
	*wayDir
	open    *heldDir
	below   *Entry // directory that lies below, or nil
	opaque  bool   // it hides what lies below
	made    bool   // it is a mount point, which is in the layer only if something is in it
	touched bool   // it was changed here
}

// whole reports whether the directory is a copy: what it has not is deleted.
func (f *differ) whole() bool { return f.known != nil }

// close gives back the directories whose contents were not read because something failed. The writer must be closed.
func (f *differ) close() {
	f.scratch.close()
	for _, d := range f.held {
		if d.holders.Load() > 0 {
			unix.Close(d.fd)
		}
	}
}

// diff writes the changes in the directory to the layer.
func (f *differ) diff(root int) error {
	f.links = make(map[uint64]string)
	fd, err := unix.Openat(root, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	below, err := f.below.Lstat(".")
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	f.scratch.dir = fd
	d := &diffDir{wayDir: &wayDir{path: ".", whole: f.whole()}, open: newHeldDir(fd), below: &below}
	defer d.open.release()
	if d.entry, _, err = f.describe(fd, ".", ".", &st, &below); err != nil {
		return err
	}
	// The root's time changes with anything in it, and no builder records that.
	d.entry.ModTime = below.ModTime
	return f.dir(d)
}

// dir compares one directory, and what is in it in order of names.
func (f *differ) dir(d *diffDir) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	f.enter(d.wayDir)
	defer f.leave()
	changed := d.below == nil && !d.made || d.below != nil && !f.sameEntry(&d.entry, d.below)
	if d.path != "." {
		f.clamp(&d.entry)
	}
	if changed {
		if err := f.flush(); err != nil {
			return err
		}
	} else if d.path == "." {
		d.done = true // a root that has not changed in itself stays as it is below
	}
	names, err := readNames(d.open.fd, f.buf(0))
	if err != nil && !f.gone(err) {
		return at(d.path, err)
	}
	var hidden []Entry // what lies below and must be here to stay
	if d.whole && d.below != nil {
		if hidden, err = filetree.ReadDir(f.below, d.path); err != nil {
			return err
		}
	}
	self := func(name *string) string { return *name }
	err = filetree.Merge(names, hidden, self, filetree.EntryName, func(name *string, below *Entry) error {
		if name == nil {
			return f.whiteoutMissing(d, below)
		}
		if below == nil && !d.whole {
			if below, err = f.lookup(d, *name); err != nil {
				return err
			}
		}
		return at(filetree.Join(d.path, *name), f.file(d, *name, below))
	})
	if err != nil {
		return err
	}
	return f.restoreDirTimes(d)
}

// at names the file that a system call failed for, unless the error names it.
func at(path string, err error) error {
	var named *fs.PathError
	if errors.As(err, new(unix.Errno)) && !errors.As(err, &named) {
		return &fs.PathError{Op: "commit", Path: path, Err: err}
	}
	return err
}

// whiteoutMissing hides what lies below and is not in a directory that shows all there is. A device that could not be made here has
// not been deleted.
func (f *differ) whiteoutMissing(d *diffDir, below *Entry) error {
	if f.whole() && isDevice(below.Mode) && f.rights.userns {
		return nil
	}
	return errors.Join(f.whiteout(filetree.Join(d.path, below.Name)), f.markRemoved(d, below.Name))
}

// file compares one name of a directory with what lies below it, or nil.
func (f *differ) file(d *diffDir, name string, below *Entry) error {
	path := filetree.Join(d.path, name)
	if err := checkLength(path); err != nil { // also where it is only to be listed: a process can make directories without end
		return err
	}
	var st unix.Stat_t
	err := unix.Fstatat(d.open.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if f.gone(err) {
		return f.vanished(d, below)
	}
	if err != nil {
		return err
	}
	made := below == nil && f.made.is(path, &st)
	if made && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if t := st.Mode & unix.S_IFMT; t == unix.S_IFSOCK || t == unix.S_IFCHR && st.Rdev == 0 {
		return f.special(d, name, t, below)
	}
	e, opaque, err := f.describe(d.open.fd, name, path, &st, below)
	if f.gone(err) {
		return f.vanished(d, below)
	}
	if err != nil {
		return err
	}
	if e.Mode&unix.S_IFMT == unix.S_IFDIR {
		if below != nil && below.Mode&unix.S_IFMT != unix.S_IFDIR {
			below = nil
		}
		way := &wayDir{path: path, entry: e, whole: d.whole || opaque}
		return f.subdir(d, &diffDir{wayDir: way, below: below, opaque: opaque, made: made})
	}
	same, err := f.unchanged(d, path, &e, below, &st)
	if f.gone(err) {
		return f.vanished(d, below)
	}
	if err != nil {
		return err
	}
	if same {
		return f.dropFromUpper(d, name)
	}
	f.clamp(&e)
	return errors.Join(f.add(d, path, e, &st), f.restoreFileTime(d, &e))
}

// gone reports whether an error means that what was there has been removed meanwhile.
func (f *differ) gone(err error) bool { return f.live && errors.Is(err, unix.ENOENT) }

// vanished is called for what is gone since its name was read.
func (f *differ) vanished(d *diffDir, below *Entry) error {
	if below == nil || !d.whole {
		return nil
	}
	return f.whiteoutMissing(d, below)
}

// special is called for what is not in a layer: a whiteout, or a socket, which means nothing once its process is gone.
func (f *differ) special(d *diffDir, name string, kind uint32, below *Entry) error {
	path := filetree.Join(d.path, name)
	switch {
	case f.whole() && kind != unix.S_IFSOCK:
		return fmt.Errorf("%s: a device 0:0 means in a layer that a file is removed", path)
	case below == nil:
		return f.dropFromUpper(d, name)
	case kind == unix.S_IFSOCK: // in the place of what lies below
		return errors.Join(f.whiteout(path), f.markRemoved(d, name))
	}
	return f.whiteout(path)
}

// lookup finds what lies below a name of a directory, or nil.
func (f *differ) lookup(d *diffDir, name string) (*Entry, error) {
	if d.below == nil {
		return nil, nil
	}
	return f.lstat(filetree.Join(d.path, name))
}

// lstat finds what lies below path, or nil.
func (f *differ) lstat(path string) (*Entry, error) {
	e, err := f.below.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// subdir compares a directory of d, which it opens.
func (f *differ) subdir(d, sub *diffDir) error {
	fd, err := unix.Openat(d.open.fd, sub.entry.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if f.gone(err) || f.live && errors.Is(err, unix.ENOTDIR) {
		return f.vanished(d, sub.below)
	}
	if err != nil {
		return err
	}
	sub.open = newHeldDir(fd)
	defer sub.open.release()
	if err := f.dir(sub); err != nil {
		return err
	}
	if !sub.done {
		return f.dropFromUpper(d, sub.entry.Name)
	}
	return nil
}

// describe reads the metadata of a file as the layer is to have it, but for the epoch, and whether it is an opaque directory.
func (f *differ) describe(dir int, name, path string, st *unix.Stat_t, below *Entry) (e Entry, opaque bool, err error) {
	if e, err = readEntry(dir, name, st); err != nil {
		return e, false, err
	}
	f.made.hide(path, &e)
	if below != nil {
		f.rights.ids.restore(&e, below)
		if e.ModTime, err = f.scratch.restore(e.ModTime, below.ModTime); err != nil {
			return e, false, err
		}
	}
	if !filetree.HasXattrs(e.Mode) {
		return e, false, nil
	}
	mark := f.rights.overlayPrefix() + "opaque"
	e.Xattrs, err = readXattrs(dir, name, func(x string) bool {
		f.notice(path, x)
		return filetree.KeepXattr(x) || x == mark && !f.whole()
	})
	if value, ok := e.Xattrs[mark]; ok {
		opaque = value == "y"
		if delete(e.Xattrs, mark); len(e.Xattrs) == 0 {
			e.Xattrs = nil
		}
	}
	return e, opaque, err
}

// sameEntry compares a file with what lies below: it may have been left alone, whatever the epoch is, or made as it was.
func (f *differ) sameEntry(e, below *Entry) bool {
	made := *e
	f.clamp(&made)
	return sameEntry(e, below) || sameEntry(&made, below)
}

// clamp applies the epoch to what is written.
func (f *differ) clamp(e *Entry) {
	if f.epoch != nil && e.ModTime.After(*f.epoch) {
		e.ModTime = *f.epoch
	}
}

// unchanged reports whether the file is as it is below, content and all.
func (f *differ) unchanged(d *diffDir, path string, e, below *Entry, st *unix.Stat_t) (bool, error) {
	// Only a link made here gives a file of the directory two names, and both must be in the layer to be one.
	if e.Nlink > 1 || below == nil || !f.sameEntry(e, below) {
		return false, nil
	}
	if e.Mode&unix.S_IFMT != unix.S_IFREG || e.Size == 0 {
		return true, nil
	}
	if c, ok := f.known[e.Inode]; ok && c.ctime == st.Ctim && c.below == below.Inode { // another one may be here, with its directory
		return true, nil
	}
	return f.sameContent(d.open.fd, e.Name, path, e.Size)
}

// sameContent compares a file with the one of the same size that lies below path.
func (f *differ) sameContent(dir int, name, path string, size int64) (bool, error) {
	here, err := openRegular(dir, name)
	if err != nil {
		return false, err
	}
	below, err := f.below.Open(path)
	if err != nil {
		return false, errors.Join(err, here.Close())
	}
	return f.same(here, below, size)
}

// sameEntry compares all but names, links and content.
func sameEntry(a, b *Entry) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Rdev == b.Rdev && a.Link == b.Link &&
		(a.Size == b.Size || a.Mode&unix.S_IFMT != unix.S_IFREG) &&
		a.ModTime.Equal(b.ModTime) && maps.Equal(a.Xattrs, b.Xattrs)
}

func isDevice(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR || mode&unix.S_IFMT == unix.S_IFBLK
}

// add writes a file to the layer; the second name of one is written as a link.
func (f *differ) add(d *diffDir, path string, e Entry, st *unix.Stat_t) error {
	if err := f.flush(); err != nil {
		return err
	}
	inode, several := e.Inode, e.Nlink > 1
	if c := f.known[inode]; c.links && c.ctime == st.Ctim { // in a directory that was moved: where mv has to copy, it keeps links
		inode, several = ^c.below, true
	}
	if several {
		if target, ok := f.links[inode]; ok {
			return f.layer.Link(path, target)
		}
		f.links[inode] = path
	}
	if e.Mode&unix.S_IFMT != unix.S_IFREG || e.Size == 0 || f.listed {
		return f.layer.Add(path, e, nil)
	}
	// Read later: the directory must stay open until then.
	if d.open.holders.Load() == 1 {
		f.held = append(f.held, d.open)
	}
	dir, name := d.open.hold(), e.Name
	return f.layer.Add(path, e, func() (io.ReadCloser, error) {
		defer dir.release()
		r, err := openRegular(dir.fd, name)
		if err != nil {
			return nil, at(path, err)
		}
		return r, nil
	})
}
