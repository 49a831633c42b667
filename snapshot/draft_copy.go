package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/durable"
)

// mountCopy makes a draft of a whole copy of what lies below, in base/root or in memory.
func (d *Draft) mountCopy(ctx context.Context, base string, o DraftOptions) error {
	d.known = make(map[uint64]copied)
	if o.Memory > 0 && !o.Plain {
		return d.copyToMemory(ctx, o.Memory)
	}
	path := filepath.Join(base, "root")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A kept copy must be whole: half a one would look as if the rest had been deleted.
		aside := path + ".new"
		if err := removeTree(aside); err != nil {
			return err
		}
		if fd, err = d.store.copyTree(ctx, d.below, aside, d.known); err != nil {
			return err
		}
		d.upper = os.NewFile(uintptr(fd), path)
		if err := durable.Move(aside, path); err != nil {
			return err
		}
	case err != nil:
		return &os.PathError{Op: "open", Path: path, Err: err}
	default:
		d.upper = os.NewFile(uintptr(fd), path)
	}
	if o.Plain {
		d.root, err = dupFile(fd)
	} else {
		d.root, err = cloneFile(fd, 0)
	}
	return err
}

// copyToMemory makes a copy in a file system of its own.
func (d *Draft) copyToMemory(ctx context.Context, size int64) error {
	mount, err := mountTmpfs(size)
	if err != nil {
		return err
	}
	d.root = os.NewFile(uintptr(mount), "draft")
	fd, err := unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	d.upper = os.NewFile(uintptr(fd), "draft")
	root, err := d.below.Lstat(".")
	if err != nil {
		return err
	}
	u := newUnpacker(ctx, fd, d.store.rights())
	u.known = d.known
	return u.unpack(unpackTree(d.below, ".", root))
}
