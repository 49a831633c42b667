package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/openat"
	"github.com/forge-build/forge/snapshot/filetree"
)

// An unpacker writes a tree into a directory. All is done by descriptors, so that neither a link in what is written nor
// one that somebody else puts there leads out of the directory.
type unpacker struct {
	ctx    context.Context
	root   int
	rights rights

	// merge writes into a directory that has other things in it, which belong to the caller, as does what is written: owners
	// are not set, and attributes that the file system cannot hold are left out.
	merge bool
	place *PlaceOptions // as merge, but see [Place]

	links map[uint64]string // inode → the name it was written under
	known map[uint64]copied // of a draft, else nil: gets all regular files, by their new inode
	buf   []byte

	space func() error // if not nil: is an error if the disk is too full to go on
	since int64        // bytes of files since it was called
}

// spaceEvery is how many bytes of files are unpacked between two looks at the free space.
const spaceEvery = 64 << 20

// A copied is a file of a draft that is a copy of the layers below. Every name is a file of its own: overlayfs, too, breaks a
// hard link of a layer as soon as one of its names is changed.
type copied struct {
	ctime unix.Timespec // as long as it has this, nobody has changed it
	below uint64        // inode of the file that it has the content of
	links bool          // which has several names
}

func copyOf(below *Entry, st *unix.Stat_t) copied {
	return copied{ctime: st.Ctim, below: below.Inode, links: below.Nlink > 1}
}

// An unpackEntry is a file to write.
type unpackEntry struct {
	Entry
	whiteout bool
	opaque   bool                            // the directory hides what lies below
	implied  bool                            // the directory is only the way to something: one that is there stays as it is
	list     func() ([]unpackEntry, error)   // of a directory
	write    func(dst int, buf []byte) error // of a regular file with a size: writes the content
	wrote    func(st *unix.Stat_t)           // of a regular file, if not nil: gets what became of it
}

// newUnpacker prepares to write into the directory root.
func newUnpacker(ctx context.Context, root int, r rights) *unpacker {
	return &unpacker{
		ctx: ctx, root: root, rights: r,
		links: make(map[uint64]string), buf: make([]byte, 256<<10),
	}
}

// others reports whether there may be things in the directory that belong to others.
func (u *unpacker) others() bool { return u.merge || u.place != nil }

// owners reports whether files get the owners that the tree says.
func (u *unpacker) owners() bool { return !u.merge && (u.place == nil || u.place.Owners) }

// owner is whose a file is to be.
func (u *unpacker) owner(e Entry) (uid, gid int) {
	if u.place != nil && u.place.Owner != nil {
		e.UID, e.GID = u.place.Owner[0], u.place.Owner[1]
	}
	return u.rights.ids.owner(&e)
}

// unpack writes what list gives and then sets the metadata of the root directory.
func (u *unpacker) unpack(root unpackEntry) error {
	fd, err := unix.Openat(u.root, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(u.fill(fd, ".", &root), closeFD(fd))
}

// fill writes what is in a directory. Its own metadata comes last: the mode may forbid writing, and the time changes with
// every file in it.
func (u *unpacker) fill(fd int, path string, dir *unpackEntry) error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	entries, err := dir.list()
	if err != nil {
		return err
	}
	for i := range entries {
		if err := u.entry(fd, filetree.Join(path, entries[i].Name), &entries[i]); err != nil {
			return err
		}
	}
	if dir.opaque && u.place == nil { // else nothing lies below
		if err := unix.Fsetxattr(fd, u.rights.overlayPrefix()+"opaque", []byte("y"), 0); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if path == "." && u.others() || dir.implied && u.place != nil {
		return nil
	}
	if err := u.setMetadata(fd, dir.Entry); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// entry writes one file into a directory.
func (u *unpacker) entry(dir int, path string, e *unpackEntry) error {
	if e.Mode&unix.S_IFMT == unix.S_IFDIR {
		return u.dir(dir, path, e)
	}
	if err := u.file(dir, path, e); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (u *unpacker) dir(parent int, path string, e *unpackEntry) error {
	err := unix.Mkdirat(parent, e.Name, 0o700)
	e.implied = e.implied && err != nil
	if u.others() && errors.Is(err, unix.EEXIST) {
		err = u.replaceByDir(parent, path, e, 0o700)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fd, err := unix.Openat(parent, e.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if u.merge {
		// What was there may forbid writing. If it is not ours to change, writing will tell.
		_ = unix.Fchmod(fd, 0o700)
	}
	return errors.Join(u.fill(fd, path, e), closeFD(fd))
}

// replaceByDir makes a directory where there is something, unless that is a directory itself. A link to one is none.
func (u *unpacker) replaceByDir(parent int, path string, e *unpackEntry, mode uint32) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if u.place != nil && (!u.place.Replace || e.implied) {
		return u.place.conflict("non-directory", "directory", path)
	}
	if err := unix.Unlinkat(parent, e.Name, 0); err != nil {
		return err
	}
	return unix.Mkdirat(parent, e.Name, mode)
}

// file writes anything but a directory.
func (u *unpacker) file(dir int, path string, e *unpackEntry) error {
	if u.others() {
		if err := u.clearName(dir, path, e); err != nil {
			return err
		}
	}
	if e.Nlink > 1 && !e.whiteout && u.known == nil {
		if first, ok := u.links[e.Inode]; ok {
			return u.link(first, dir, e.Name)
		}
		u.links[e.Inode] = path
	}
	switch {
	case e.Mode&unix.S_IFMT == unix.S_IFSOCK:
		return nil
	case e.whiteout:
		return unix.Mknodat(dir, e.Name, unix.S_IFCHR, 0)
	case e.Mode&unix.S_IFMT == unix.S_IFREG:
		return u.regular(dir, e)
	case e.Mode&unix.S_IFMT == unix.S_IFLNK:
		return u.symlink(dir, e)
	}
	err := unix.Mknodat(dir, e.Name, e.Mode, int(e.Rdev))
	if errors.Is(err, unix.EPERM) && isDevice(e.Mode) && (u.rights.userns || u.others()) {
		return nil // not ours to make, and it could not be opened
	}
	if err != nil {
		return err
	}
	fd, err := unix.Openat(dir, e.Name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(u.setSpecial(fd, e.Entry), closeFD(fd))
}

// clearName makes room for a file in a directory of the caller's.
func (u *unpacker) clearName(dir int, path string, e *unpackEntry) error {
	if u.place != nil && e.whiteout {
		return fmt.Errorf("a name that begins with %s says in a layer that a file is removed", filetree.WhiteoutPrefix)
	}
	name := e.Name
	err := unix.Unlinkat(dir, name, 0)
	if u.place != nil && !u.place.Replace && errors.Is(err, unix.EISDIR) {
		return u.place.conflict("directory", "non-directory", path)
	}
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		return removeAt(dir, name)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// link makes a hard link of a file that has been written.
func (u *unpacker) link(first string, dir int, name string) error {
	at, base := filetree.Split(first)
	fd, err := openat.Beneath(u.root, at, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return errors.Join(unix.Linkat(fd, base, dir, name, 0), closeFD(fd))
}

func (u *unpacker) regular(dir int, e *unpackEntry) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if u.since += e.Size; u.space != nil && u.since >= spaceEvery {
		u.since = 0
		if err := u.space(); err != nil {
			return err
		}
	}
	fd, err := unix.Openat(dir, e.Name, flags, 0o600)
	if err != nil {
		return err
	}
	if e.Size > 0 {
		if err = e.write(fd, u.buf); err == nil {
			err = unix.Ftruncate(fd, e.Size) // it may end in a hole
		}
	}
	if err == nil {
		err = u.setMetadata(fd, e.Entry)
	}
	if err == nil && (u.known != nil || e.wrote != nil) {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil {
			u.note(e, &st)
		}
	}
	return errors.Join(err, closeFD(fd))
}

// note tells those who want to know of a regular file that was written.
func (u *unpacker) note(e *unpackEntry, st *unix.Stat_t) {
	if e.wrote != nil {
		e.wrote(st)
	}
	if u.known != nil {
		u.known[st.Ino] = copyOf(&e.Entry, st)
	}
}

func (u *unpacker) symlink(dir int, e *unpackEntry) error {
	if err := unix.Symlinkat(e.Link, dir, e.Name); err != nil {
		return err
	}
	if u.owners() {
		uid, gid := u.owner(e.Entry)
		if err := unix.Fchownat(dir, e.Name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dir, e.Name, times(&e.Entry), unix.AT_SYMLINK_NOFOLLOW)
}

// setMetadata gives an open file or directory all that e says of it.
func (u *unpacker) setMetadata(fd int, e Entry) error {
	// Chown first: the kernel drops setuid and setgid bits and capabilities when the owner of a file changes.
	if u.owners() {
		uid, gid := u.owner(e)
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	for name, value := range e.Xattrs {
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err != nil && !(u.others() && (errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM))) {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	if err := unix.Fchmod(fd, e.Mode&filetree.ModePerm); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	if err := futimes(fd, &e); err != nil {
		return fmt.Errorf("utimes: %w", err)
	}
	return nil
}

// futimes sets the times of what fd refers to, which may have been opened with O_PATH.
func futimes(fd int, e *Entry) error {
	return unix.UtimesNanoAt(fd, "", times(e), unix.AT_EMPTY_PATH)
}

// setSpecial is setMetadata for what must not be opened. The file may be somebody else's by now, if the directory is, but
// is never a link.
func (u *unpacker) setSpecial(fd int, e Entry) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != e.Mode&unix.S_IFMT {
		return errors.New("was replaced while it was written")
	}
	if u.owners() {
		uid, gid := u.owner(e)
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if err := unix.Fchmodat(unix.AT_FDCWD, procPath(fd), e.Mode&filetree.ModePerm, 0); err != nil {
		return err
	}
	return futimes(fd, &e)
}

func times(e *Entry) []unix.Timespec {
	sec, nsec := e.UnixTime()
	t := unix.Timespec{Sec: sec, Nsec: int64(nsec)}
	return []unix.Timespec{t, t}
}

// unpackTree makes a tree the source of an unpacker.
func unpackTree(tree Tree, path string, e Entry) unpackEntry {
	entry := unpackEntry{Entry: e}
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		entry.list = func() ([]unpackEntry, error) {
			kids, err := filetree.ReadDir(tree, path)
			if err != nil {
				return nil, err
			}
			entries := make([]unpackEntry, len(kids))
			for i, kid := range kids {
				entries[i] = unpackTree(tree, filetree.Join(path, kid.Name), kid)
			}
			return entries, nil
		}
	case unix.S_IFREG:
		entry.write = func(dst int, buf []byte) error { return copyContent(dst, tree, path, buf) }
	}
	return entry
}

// copyContent writes a file of a tree, leaving holes where blocks are zero.
func copyContent(dst int, tree Tree, path string, buf []byte) (err error) {
	r, err := tree.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if c, ok := r.(*contentReader); ok {
		if tar, ok := c.tar.(*os.File); ok {
			return copyExtents(dst, tar, c.extents, buf)
		}
	}
	for at := int64(0); ; {
		n, err := io.ReadFull(r, buf)
		if writeErr := writeSparse(dst, buf[:n], at); writeErr != nil {
			return writeErr
		}
		at += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
