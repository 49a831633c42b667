// Package durable writes files so that they are there whole or not at all, and opens files that a user has named, which may
// be anything: a file, a link, a pipe, a device.
//
// A file is written under a temporary name in the directory of its place, synced, renamed, and the directory is synced. So a
// process that is killed at any point leaves the old file or the new one, and a temporary file that begins with [Prefix].
package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/internal/flock"
)

// Prefix begins the names of files that are being written. One that nobody writes is litter.
const Prefix = ".tmp-"

// Temporary reports whether a name in a directory is that of a file that is being written, or was when its writer ended.
func Temporary(name string) bool { return strings.HasPrefix(name, Prefix) }

// A File is being written. It is not safe for concurrent use.
type File struct {
	w    writer
	f    *os.File
	path string // the place; "" if what is written goes there at once
	done bool
}

type writer interface{ Write(p []byte) (int, error) }

// Create begins a file that Commit or Replace will put at path, in the place of what is there. Its directory must exist.
// The permission bits are less the umask, as in open(2).
func Create(path string, perm fs.FileMode) (*File, error) {
	f, err := createTemp(filepath.Dir(path), perm)
	if err != nil {
		return nil, err
	}
	return &File{w: f, f: f, path: path}, nil
}

// createTemp makes a file under a new name.
func createTemp(dir string, perm fs.FileMode) (*os.File, error) {
	for {
		var random [8]byte
		rand.Read(random[:])
		name := filepath.Join(dir, Prefix+hex.EncodeToString(random[:]))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// The lock tells a sweep that the file has an owner. Where files cannot be locked there is no sweep either.
		if err := flock.Try(f, flock.Exclusive); errors.Is(err, flock.ErrHeld) || !flock.Same(f) {
			if err := f.Close(); err != nil { // a sweep came between the two steps
				return nil, err
			}
			continue
		}
		return f, nil
	}
}

// Write writes to the file.
func (f *File) Write(p []byte) (int, error) { return f.w.Write(p) }

// Commit makes the file durable and puts it at its place. When it returns nil the file survives a power cut.
func (f *File) Commit() error {
	if f.path == "" {
		return f.finish()
	}
	if err := f.f.Sync(); err != nil {
		return err
	}
	if err := f.Replace(); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(f.path))
}

// Replace puts the file at its place without making it durable. Other processes see it whole or not at all; a power cut
// may lose it or tear it. It is for what can be made anew.
func (f *File) Replace() error {
	if f.path == "" {
		return f.finish()
	}
	if f.done {
		return &fs.PathError{Op: "rename", Path: f.path, Err: os.ErrClosed}
	}
	// The lock is held until the file has its name.
	if err := os.Rename(f.f.Name(), f.path); err != nil {
		return err
	}
	f.done = true
	return f.f.Close()
}

// finish ends what was written in place.
func (f *File) finish() error {
	if f.done {
		return &fs.PathError{Op: "close", Path: f.f.Name(), Err: os.ErrClosed}
	}
	f.done = true
	err := f.f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EROFS) {
		err = nil // a pipe, a terminal: it has no disk to be synced to
	}
	return errors.Join(err, f.f.Close())
}

// Close discards the file unless it is at its place. What was written in place, as to a pipe, cannot be taken back.
func (f *File) Close() error {
	if f.done {
		return nil
	}
	f.done = true
	err := f.f.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil // a Commit that failed has closed it
	}
	if f.path != "" {
		if rerr := os.Remove(f.f.Name()); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// WriteFile makes path a file with the given content, durably.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, (*File).Commit)
}

// ReplaceFile makes path a file with the given content, which a power cut may lose or tear: see [File.Replace].
func ReplaceFile(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, (*File).Replace)
}

func write(path string, data []byte, perm fs.FileMode, place func(*File) error) (err error) {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := failpoint.At("durable.write.before-rename"); err != nil {
		return err
	}
	return place(f)
}

// Move renames a file or directory. It is for callers that rename many and then call [SyncDir], and for what need not
// survive a power cut.
func Move(from, to string) error { return os.Rename(from, to) }

// MoveNew is Move, but fails with an error that is fs.ErrExist if there is something at to.
func MoveNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// SyncDirs is SyncDir of several at once, in the time that one takes where the file system writes its journal for all of them.
func SyncDirs(dirs ...string) error {
	return each(dirs, SyncDir)
}

// SyncFiles makes what files hold durable, all at once, and nothing else: what others write to the file system is left to the kernel.
func SyncFiles(files ...*os.File) error {
	return each(files, func(f *os.File) error { return syncBy("fdatasync", unix.Fdatasync, f) })
}

// syncBy syncs with a system call, which a signal may interrupt.
func syncBy(name string, call func(fd int) error, f *os.File) error {
	for {
		err := call(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: name, Path: f.Name(), Err: err}
		}
	}
}

// atOnce is how many files are synced at a time: each takes a thread.
const atOnce = 16

// each does the same with all things of a list, side by side.
func each[T any](list []T, do func(T) error) error {
	errs := make([]error, len(list))
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, one := range list {
		slots <- struct{}{}
		all.Go(func() {
			errs[i] = do(one)
			<-slots
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// StartWriting has the kernel begin to write what a file holds, so that a sync has less to wait for. It is no promise, and does not fail.
func StartWriting(f *os.File) { _ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) }

// SyncFS makes everything in the file system of f durable. It fails if anything in it could not be written since f was
// opened (syncfs(2), Linux 5.8).
func SyncFS(f *os.File) error { return syncBy("syncfs", unix.Syncfs, f) }

// Sweep removes the temporary files in a directory that nobody is writing. A directory that does not exist has none.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if Temporary(e.Name()) && !e.IsDir() {
			errs = append(errs, sweep(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func sweep(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil //nolint:nilerr // it is at its place by now, or another's
	}
	if err := flock.Try(f, flock.Exclusive); err != nil || !flock.Same(f) {
		return f.Close()
	}
	return errors.Join(os.Remove(path), f.Close())
}
