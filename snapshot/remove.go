package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// removeDepth is how many directories are held open at once while a tree is deleted.
const removeDepth = 64

// removeTree deletes a tree that may have been made by anybody: it never follows a link and holds few descriptors
// however deep the tree is, as what lies too deep is first moved up. A path that is not there is no error, nor is one that others
// delete at the same time.
func removeTree(path string) error {
	parent, err := openDirectory(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := removeAt(int(parent.Fd()), filepath.Base(path)); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// removeAt deletes name, with all that is in it, from an open directory.
func removeAt(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	top, err := openToEmpty(dir, name)
	if err != nil {
		return unlessGone(err)
	}
	defer top.Close()
	r := remover{top: top}
	// What is moved up lands in the top directory while it is being read, so go on until nothing is moved any more.
	for moved := -1; moved != r.moved; {
		moved = r.moved
		if _, err := top.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := r.empty(top, 0); err != nil {
			return err
		}
	}
	return unlessGone(unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
}

// unlessGone is the error, unless it says that others have deleted what is deleted.
func unlessGone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

type remover struct {
	top   *os.File
	moved int
}

// empty deletes all that is in dir.
func (r *remover) empty(dir *os.File, depth int) error {
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if err := r.remove(dir, name, depth); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unlessGone(err)
		}
	}
}

func (r *remover) remove(dir *os.File, name string, depth int) error {
	fd := int(dir.Fd())
	err := unix.Unlinkat(fd, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	if depth >= removeDepth {
		r.moved++
		return unix.Renameat(fd, name, int(r.top.Fd()), ".deep"+strconv.Itoa(r.moved))
	}
	if err := r.removeDir(fd, name, depth); err != nil {
		return err
	}
	return unlessGone(unix.Unlinkat(fd, name, unix.AT_REMOVEDIR))
}

func (r *remover) removeDir(parent int, name string, depth int) error {
	dir, err := openToEmpty(parent, name)
	if err != nil {
		return unlessGone(err)
	}
	defer dir.Close()
	return r.empty(dir, depth+1)
}

// openToEmpty opens a directory that may forbid it: overlayfs leaves work/work with mode 0, and so may a container.
func openToEmpty(parent int, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent, name, flags, 0)
	if errors.Is(err, unix.EACCES) {
		if err := unix.Fchmodat(parent, name, 0o700, 0); err != nil {
			return nil, err
		}
		fd, err = unix.Openat(parent, name, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// A reaper deletes directories behind its owner's back, one at a time, as deleting many files takes long and nobody
// waits for it.
type reaper struct {
	running sync.WaitGroup

	mu   sync.Mutex // held while deleting; guards errs
	errs []error
}

// do runs f in the background; its error comes with wait.
func (r *reaper) do(f func() error) {
	r.running.Go(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if err := f(); err != nil {
			r.errs = append(r.errs, err)
		}
	})
}

// wait waits until everything is deleted.
func (r *reaper) wait() error {
	r.running.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	err := errors.Join(r.errs...)
	r.errs = nil
	return err
}

// RemoveTree deletes a tree that may have been made by anybody, as what a container has written: no link is followed. A path
// that is not there is no error.
func RemoveTree(path string) error { return removeTree(path) }
