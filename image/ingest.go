package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/forge-build/forge/internal/flock"
)

// Sweep removes the staging directories of dead processes.
func (s *Staging) Sweep() error { return flock.Sweep(s.ingest(), "", os.RemoveAll) }

// adopt stages the file for final that another living process has staged and not yet published. It reports whether the
// file is now there, staged or at its place.
func (s *Staging) adopt(final string) (bool, error) {
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
		if _, err := os.Lstat(theirs); err != nil || !flock.Held(dir) {
			continue // what a dead process left may have been torn by a power cut
		}
		if err := s.begin(); err != nil {
			return false, err
		}
		ours, _ := s.staged(s.dir, final)
		if err := os.Link(theirs, ours); err == nil {
			s.note(&staged{final: final, path: ours})
			return true, nil
		}
	}
	_, err = os.Lstat(final)
	return err == nil, nil
}
