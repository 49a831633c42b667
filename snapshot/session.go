package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/flock"
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

// open makes and locks the directory.
func (s *session) open(drafts string) (err error) {
	if s.dir == nil {
		s.dir, err = flock.NewDir(drafts, "")
	}
	return err
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

func openDirectory(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}
