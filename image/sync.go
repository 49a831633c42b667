package image

import (
	"errors"
	"path/filepath"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// writeDurably replaces the file path with data at once: a temporary file (in the staging directory, where a crash leaves
// it to the sweep), write, fsync, rename, fsync of the directory. The fail points are point.before-rename and
// point.after-rename. In a scratch directory nothing waits for the disk.
func (s *Staging) writeDurably(path string, data []byte, point string) (err error) {
	f, err := s.Create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if !s.scratch {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := failpoint.At(point + ".before-rename"); err != nil {
		return err
	}
	if err := durable.Move(f.Name(), path); err != nil {
		return err
	}
	if err := failpoint.At(point + ".after-rename"); err != nil {
		return err
	}
	if s.scratch {
		return nil
	}
	return durable.SyncDir(filepath.Dir(path))
}

// write stages the file path with data.
func (s *Staging) write(path string, data []byte) (err error) {
	f, err := s.Create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit(path)
}
