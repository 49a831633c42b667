package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir takes the exclusive flock of a directory if nobody has it, and makes sure that it is still there afterwards.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := os.Lstat(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// flock locks an open file; EWOULDBLOCK means that another has it.
func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if err != syscall.EINTR {
			return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// Sweep removes the staging directories of dead processes.
func (s *Staging) Sweep() error {
	entries, err := os.ReadDir(s.ingest())
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(s.ingest(), e.Name())
		lock, err := lockDir(dir)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue // alive, or swept by another
		}
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(dir), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Adopt stages the file for final that another living process has staged and not yet published. It tells whether the
// file is now there, staged or at its place.
func (s *Staging) Adopt(final string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.files[final]; ok {
		return true, nil
	}
	entries, err := os.ReadDir(s.ingest())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, e := range entries {
		dir := filepath.Join(s.ingest(), e.Name())
		theirs, err := s.staged(dir, final)
		if err != nil {
			return false, err
		}
		if _, err := os.Lstat(theirs); err != nil || !alive(dir) {
			continue // what a dead process left may have been torn by a power cut
		}
		if err := s.open(); err != nil {
			return false, err
		}
		ours, _ := s.staged(s.dir, final)
		if err := os.Link(theirs, ours); err == nil {
			s.files[final] = ours
			return true, nil
		}
	}
	_, err = os.Lstat(final)
	return err == nil, nil
}

func alive(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	err = flock(f, syscall.LOCK_SH|syscall.LOCK_NB)
	f.Close()
	return errors.Is(err, syscall.EWOULDBLOCK)
}
