package image

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/forge-build/forge/internal/durable"
)

// A StagedFile is being written.
type StagedFile struct {
	*os.File
	staging *Staging
	dirty   int // bytes that the kernel was not asked to write
	done    bool
}

// startEvery is how many bytes the kernel keeps before it is asked to begin with writing them: most are on the disk when they are synced.
const startEvery = 8 << 20

// Write writes to the file.
func (f *StagedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if f.dirty += n; f.dirty >= startEvery {
		f.dirty = 0
		durable.StartWriting(f.File)
	}
	return n, err
}

// ReadFrom writes what r has.
func (f *StagedFile) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r}, make([]byte, bufSize))
}

// Commit ends the file and names its place, an absolute path in the state directory. It does not sync. Of two files
// for one place the later wins.
func (f *StagedFile) Commit(final string) error {
	if f.done {
		return &fs.PathError{Op: "commit", Path: final, Err: os.ErrClosed}
	}
	s := f.staging
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return errStagingClosed
	}
	if err := s.place(f.File, filepath.Clean(final)); err != nil {
		return err
	}
	f.done = true
	return nil
}

// Close discards the file unless it was committed.
func (f *StagedFile) Close() error {
	if f.done {
		return nil
	}
	f.done = true
	err := f.File.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil // a Commit that came to nothing has closed it
	}
	if rerr := os.Remove(f.Name()); !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}
