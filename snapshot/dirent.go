package snapshot

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/openat"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A heldDir is a directory held open by those who read from it, and closed by the last.
type heldDir struct {
	fd      int
	holders atomic.Int32
}

func newHeldDir(fd int) *heldDir {
	d := &heldDir{fd: fd}
	d.holders.Store(1)
	return d
}

func (d *heldDir) hold() *heldDir { d.holders.Add(1); return d }

func (d *heldDir) release() {
	if d.holders.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// readNames returns what is in a directory, sorted by name.
func readNames(fd int, buf []byte) ([]string, error) {
	var names []string
	err := filetree.ReadNames(fd, buf, func(name []byte, _ uint8) error {
		if len(names) == filetree.MaxEntries {
			return filetree.ErrTooMany
		}
		names = append(names, string(name))
		return nil
	})
	slices.Sort(names)
	return names, err
}

// readEntry describes the file name in a directory, without its attributes.
func readEntry(dir int, name string, st *unix.Stat_t) (Entry, error) {
	e := Entry{
		Name: name, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size, Rdev: st.Rdev,
		ModTime: time.Unix(st.Mtim.Unix()), Nlink: uint32(st.Nlink), Inode: st.Ino,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Rdev = 0
		return e, nil
	case unix.S_IFLNK:
		var err error
		if e.Link, err = openat.Readlink(dir, name); err != nil {
			return e, err
		}
		e.Rdev = 0
	case unix.S_IFCHR, unix.S_IFBLK:
	default:
		e.Rdev = 0
	}
	e.Size = 0
	return e, nil
}

// A fileReader reads a file by its descriptor and nothing else: half of opening many small files with package os is
// asking whether they could be polled.
type fileReader struct {
	fd int
}

// openRegular opens a file in a directory without following a link or waiting for a pipe, and makes sure that it is a
// regular file.
func openRegular(dir int, name string) (*fileReader, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // of another owner
		fd, err = unix.Openat(dir, name, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file any more", name))
	}
	if st.Size > 1<<20 {
		// Twice the usual read-ahead; an error would only cost speed.
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL)
	}
	return &fileReader{fd}, nil
}

func (r *fileReader) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(r.fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func (r *fileReader) Close() error { return closeFD(r.fd) }
