package snapshot

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/openat"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A Live is what is in a directory now, mounts in it included. Each call looks anew: others may write to it meanwhile, and may
// be enemies. No link is followed on any way, so that what is read is in the directory whatever they do; what is gone when it
// is looked at is not listed. A Tree; safe for concurrent use.
type Live struct {
	dir     *os.File
	buffers sync.Pool // of *[]byte, for names
}

var _ Tree = (*Live)(nil)

// OpenLive makes a tree of an open directory, which must stay open.
func OpenLive(dir *os.File) *Live { return &Live{dir: dir} }

// Dir opens a directory of the tree.
func (l *Live) Dir(name string) (*os.File, error) {
	fd, err := l.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Resolve follows links in the tree as they are now, the last one too, with the directory as the root. The path up to a missing
// component is resolved and the rest kept, with an error that is fs.ErrNotExist.
func (l *Live) Resolve(name string) (string, error) { return filetree.Resolve(l.Lstat, name) }

func (l *Live) open(name string, flags int) (int, error) {
	return openat.Beneath(int(l.dir.Fd()), name, flags|unix.O_NOFOLLOW)
}

// in opens the directory in which name is.
func (l *Live) in(name string) (dir int, base string, err error) {
	parent, base := filetree.Split(name)
	dir, err = l.open(parent, unix.O_PATH|unix.O_DIRECTORY)
	return dir, base, err
}

// Lstat implements [Tree].
func (l *Live) Lstat(name string) (Entry, error) {
	dir, base, err := l.in(name)
	if err != nil {
		return Entry{}, pathError("lstat", name, err)
	}
	defer unix.Close(dir)
	e, err := describeLive(dir, base)
	if err != nil {
		return e, pathError("lstat", name, err)
	}
	return e, nil
}

func describeLive(dir int, name string) (Entry, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Entry{}, err
	}
	e, err := readEntry(dir, name, &st)
	if err != nil {
		return e, err
	}
	e.Inode = liveInode(&st)
	e.Changed = st.Ctim.Nano()
	if filetree.HasXattrs(e.Mode) {
		e.Xattrs, err = readXattrs(dir, name, filetree.KeepXattr)
	}
	return e, err
}

// liveInode is the number of a file among those of several file systems.
func liveInode(st *unix.Stat_t) uint64 { return st.Ino ^ st.Dev<<40 }

// List implements [Tree].
func (l *Live) List(name string, fn func(e *Entry, sum *filetree.Sum) error) error {
	dir, err := l.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return pathError("readdir", name, err)
	}
	defer unix.Close(dir)
	names, err := l.readNames(dir)
	if err != nil {
		return pathError("readdir", name, err)
	}
	for _, base := range names {
		e, err := describeLive(dir, base)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // it is gone, or no link any more
			continue
		}
		if err != nil {
			return pathError("lstat", filetree.Join(name, base), err)
		}
		if err := fn(&e, nil); err != nil {
			return err
		}
	}
	return nil
}

func (l *Live) readNames(dir int) ([]string, error) {
	buf, ok := l.buffers.Get().(*[]byte)
	if !ok {
		b := make([]byte, 32<<10)
		buf = &b
	}
	defer l.buffers.Put(buf)
	return readNames(dir, *buf)
}

// Open implements [Tree]. What a file has grown by since it was opened is not read.
func (l *Live) Open(name string) (filetree.File, error) {
	dir, base, err := l.in(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	defer unix.Close(dir)
	r, err := openRegular(dir, base)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	f := os.NewFile(uintptr(r.fd), name)
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		*io.SectionReader
		io.Closer
	}{io.NewSectionReader(f, 0, info.Size()), f}, nil
}

// Sum implements [Tree].
func (l *Live) Sum(ctx context.Context, name string) (sum filetree.Sum, err error) {
	f, err := l.Open(name)
	if err != nil {
		return sum, err
	}
	sum, err = filetree.SumOf(ctx, f, make([]byte, 128<<10))
	return sum, errors.Join(err, f.Close())
}

// Load implements [Tree].
func (l *Live) Load(context.Context, string) error { return nil }
