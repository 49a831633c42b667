package image

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// sync makes all that is staged durable, and what else the file system has to write: entries of the cache are renamed into place and left to
// this. The kernel reports every write error since a descriptor was opened, and that of the directory was opened before the files were written.
func (s *Staging) sync() error {
	if s.scratch {
		return nil
	}
	return durable.SyncFS(s.lock)
}

// A replacement is what a file is to hold.
type replacement struct {
	path string
	data []byte
}

// writeDurably replaces files at once, which takes two rounds of syncs, however many they are: temporary files (in the staging directory,
// where a crash leaves them to the sweep), fsync, renames in the order given, fsync of the directories. The fail points are
// point.before-rename and point.after-rename, of each file. In a scratch directory nothing waits for the disk.
func (s *Staging) writeDurably(point string, list ...replacement) (err error) {
	files, dirs := make([]*os.File, len(list)), map[string]bool{}
	for i, r := range list {
		f, createErr := s.Create()
		if createErr != nil {
			return createErr
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if _, err := f.Write(r.data); err != nil {
			return err
		}
		files[i], dirs[filepath.Dir(r.path)] = f.File, true
	}
	if !s.scratch {
		if err := durable.SyncFiles(files...); err != nil {
			return err
		}
	}
	for i, r := range list {
		if err := failpoint.At(point + ".before-rename"); err != nil {
			return err
		}
		if err := durable.Move(files[i].Name(), r.path); err != nil {
			return err
		}
		if err := failpoint.At(point + ".after-rename"); err != nil {
			return err
		}
	}
	if s.scratch {
		return nil
	}
	return durable.SyncDirs(slices.Collect(maps.Keys(dirs))...)
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
