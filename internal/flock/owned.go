package flock

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// NewDir makes a directory in parent, mode 0700, named by prefix and random digits, and locks it. It belongs to the caller,
// who removes it and then closes it. What a process that died leaves is for the next [Sweep].
func NewDir(parent, prefix string) (*os.File, error) {
	for {
		path, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			return nil, err
		}
		f, err := TryLockDir(path, Exclusive)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, fs.ErrNotExist):
			// A sweep came between the two steps, and removed it.
		case errors.Is(err, ErrHeld):
			// A sweep is about to remove it, or somebody asks whether it is held.
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		default:
			return nil, errors.Join(err, os.Remove(path))
		}
	}
}

// Sweep removes the directories in parent whose names begin with prefix and which nobody holds. It goes on after an error.
// Other files, links, directories that the caller may not open, and a parent that does not exist are left alone. The
// function remove deletes a directory with all that is in it, as [os.RemoveAll] does.
func Sweep(parent, prefix string, remove func(path string) error) error {
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), prefix) {
			errs = append(errs, sweep(filepath.Join(parent, e.Name()), remove))
		}
	}
	return errors.Join(errs...)
}

func sweep(path string, remove func(string) error) error {
	f, err := TryLockDir(path, Exclusive)
	switch {
	case errors.Is(err, ErrHeld), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission),
		errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return nil // alive, or gone, or another's
	case err != nil:
		return err
	}
	return errors.Join(remove(path), f.Close())
}
