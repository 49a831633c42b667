package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountCopy makes a draft of a whole copy of what lies below, in base/root.
func (d *Draft) mountCopy(ctx context.Context, base string) error {
	d.whole = true
	path := filepath.Join(base, "root")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// A kept copy must be whole: half a one would look as if the rest had been deleted.
		aside := path + ".new"
		if err := removeTree(aside); err != nil {
			return err
		}
		d.known = make(map[uint64]unix.Timespec)
		if fd, err = copyTree(ctx, d.below, aside, d.known); err != nil {
			return err
		}
		d.upper = os.NewFile(uintptr(fd), path)
		if err := os.Rename(aside, path); err != nil {
			return err
		}
	} else if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	} else {
		d.upper = os.NewFile(uintptr(fd), path)
	}
	d.root, err = cloneFile(fd, false)
	return err
}
