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
// litter, which each session that begins takes away.
type session struct {
	sweep sync.WaitGroup

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

// Session is this process's directory of drafts, held by its lock; nil if there is none. What is mounted may be in it.
func (s *Store) Session() *os.File {
	s.session.mu.Lock()
	defer s.session.mu.Unlock()
	return s.session.dir
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

// open makes and locks the directory, and has those of dead processes deleted in the background.
func (s *session) open(drafts string) error {
	if s.dir != nil {
		return nil
	}
	dir, err := flock.NewDir(drafts, "")
	if err != nil {
		return err
	}
	if err := isolate(dir); err != nil {
		return errors.Join(err, os.Remove(dir.Name()), dir.Close())
	}
	s.dir = dir
	s.sweep.Go(func() {
		_ = flock.Sweep(drafts, "", removeTree) // what cannot be deleted does no harm, and a prune names it
	})
	return nil
}

// isolate frees a directory from what it has of the one it is in: files that are made in it are to have the modes and
// groups that their makers give them, whatever default ACL or setgid bit lies above the store.
func isolate(dir *os.File) error {
	fd := int(dir.Fd())
	for _, acl := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := unix.Fremovexattr(fd, acl)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return &os.PathError{Op: "remove ACL of", Path: dir.Name(), Err: err}
		}
	}
	if err := unix.Fchmod(fd, 0o700); err != nil {
		return &os.PathError{Op: "chmod", Path: dir.Name(), Err: err}
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
	s.sweep.Wait()
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
