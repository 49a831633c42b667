package image

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// few files are kept open until they are synced. Of more, those that were closed are left to a sync of the whole file system.
const few = 512

// sync makes staged files durable, and with them what [Staging.Also] was told of. The kernel reports every write error since a descriptor was
// opened, and those of the files, and that of the directory, were opened before the files were written.
func (s *Staging) sync(batch []*staged) (err error) {
	s.mu.Lock()
	var files []*os.File
	for _, p := range batch {
		if p.file != nil {
			files = append(files, p.file)
			p.file = nil // nobody else closes it
		}
	}
	also := s.also
	s.also = nil
	s.mu.Unlock()
	defer func() { err = errors.Join(err, closeAll(files)) }()
	if s.scratch {
		return nil
	}
	if len(files) < len(batch) {
		return durable.SyncFS(s.lock)
	}
	var beside sync.WaitGroup
	beside.Go(func() { syncWhatIsThere(also) })
	defer beside.Wait()
	return durable.SyncFiles(files...)
}

// syncWhatIsThere syncs files that can be done without: one that is gone or cannot be written is as good as one that a power cut has torn.
func syncWhatIsThere(paths []string) {
	var files []*os.File
	for _, path := range paths {
		if f, err := os.Open(path); err == nil {
			files = append(files, f)
		}
	}
	_ = durable.SyncFiles(files...)
	_ = closeAll(files)
}

func closeAll(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Also has the next Publish that has something to do sync a file that is at its place already, such as an entry of the cache: what a power cut
// would tear until then can be done without. No error of it is told.
func (s *Staging) Also(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.also = append(s.also, path)
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
