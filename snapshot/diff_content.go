package snapshot

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

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

// A linkGroup is the names of one inode in a copy.
type linkGroup struct {
	same  bool
	below uint64 // inode that all of them have below
}

// group finds out which files of a copy that have several names are, under all of them, one file below, and unchanged.
func (f *differ) group(root int, path string) error {
	groups := make(map[uint64]*linkGroup)
	if err := f.collect(root, path, groups); err != nil {
		return err
	}
	for inode, g := range groups {
		f.groups[inode] = g.same
	}
	return nil
}

func (f *differ) collect(fd int, path string, groups map[uint64]*linkGroup) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	names, err := readNames(fd, f.buf)
	if err != nil {
		return at(path, err)
	}
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return at(filetree.Join(path, name), err)
		}
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return at(filetree.Join(path, name), err)
			}
			err = f.collect(sub, filetree.Join(path, name), groups)
			if err := errors.Join(err, closeFD(sub)); err != nil {
				return err
			}
		case st.Nlink > 1:
			if err := f.member(fd, filetree.Join(path, name), name, &st, groups); err != nil {
				return at(filetree.Join(path, name), err)
			}
		}
	}
	return nil
}

// member compares one name of a file that has several.
func (f *differ) member(dir int, path, name string, st *unix.Stat_t, groups map[uint64]*linkGroup) error {
	g, later := groups[st.Ino]
	if later && !g.same {
		return nil
	}
	if !later {
		g = &linkGroup{}
		groups[st.Ino] = g
	}
	g.same = false
	below, err := f.lstat(path)
	if err != nil || below == nil {
		return err
	}
	if later {
		g.same = below.Inode == g.below // its content has been compared under the first name
		return nil
	}
	g.below = below.Inode
	e, _, err := f.describe(dir, name, path, st, below)
	if err != nil || !sameEntry(&e, below) {
		return err
	}
	if e.Mode&unix.S_IFMT != unix.S_IFREG || e.Size == 0 {
		g.same = true
		return nil
	}
	if ctime, ok := f.known[e.Inode]; ok && ctime == st.Ctim {
		g.same = true
		return nil
	}
	g.same, err = f.sameContent(dir, name, path, e.Size)
	return err
}
