package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A session is this process's own directory in root/drafts. It holds a flock for its life; one that nobody holds is
// litter.
type session struct {
	mu   sync.Mutex // guards all below
	dir  *os.File   // locked; nil until the first draft
	next int
	void *os.File // an empty directory, to stack on where there are no layers
}

// newDir makes a directory for a draft and returns its path.
func (s *session) newDir(drafts string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(drafts); err != nil {
		return "", err
	}
	s.next++
	path := filepath.Join(s.dir.Name(), strconv.Itoa(s.next))
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", err
	}
	return path, nil
}

// empty returns a directory that has nothing in it and never will. The session keeps it.
func (s *session) empty(drafts string) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.void != nil {
		return s.void, nil
	}
	if err := s.open(drafts); err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir.Name(), "void")
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, err
	}
	f, err := openDirectory(path)
	if err != nil {
		return nil, err
	}
	zero := time.Unix(0, 0)
	// Its mode and times are what an image without layers shows as its root.
	if err := errors.Join(f.Chmod(0o755), os.Chtimes(path, zero, zero)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.void = f
	return f, nil
}

// open makes and locks the directory. A sweep may take it between the two steps; then there is another.
func (s *session) open(drafts string) error {
	for s.dir == nil {
		path, err := os.MkdirTemp(drafts, "")
		if err != nil {
			return err
		}
		f, err := openDirectory(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && sameDirectory(f, path) {
			s.dir = f
			return nil
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == nil {
		return nil
	}
	var errs []error
	if s.void != nil {
		errs = append(errs, s.void.Close())
	}
	errs = append(errs, removeTree(s.dir.Name()), s.dir.Close())
	s.dir, s.void = nil, nil
	return errors.Join(errs...)
}

// sweepSessions deletes the sessions of dead processes.
func sweepSessions(drafts string) error {
	entries, err := os.ReadDir(drafts)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(drafts, e.Name())
		f, err := openDirectory(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && sameDirectory(f, path) {
			errs = append(errs, removeTree(path))
		}
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func openDirectory(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// sameDirectory tells whether path still names what f has open.
func sameDirectory(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(opened, named)
}
