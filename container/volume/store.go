// Package volume keeps volumes: directories that outlive the containers they are mounted in.
//
// A volume is a directory named by it. In it are
//
//	volume.json  what it was made as
//	lock         flocked by who fills or removes it, and by who makes a container with it until that is written down
//	_data        what is mounted; it stays the same directory for life, as it may be mounted at any time
//	new          a copy for _data that is being made
//	ready        a copy that is whole, while it is moved to _data
//
// So a copy whose maker was killed is made again, or is moved on, by the next use.
package volume

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/internal/flock"
)

// A Store is the directory of all volumes. Safe for concurrent use, by processes too.
type Store struct {
	dir    string
	remove func(path string) error
}

// Open returns the store in a directory, which is made by the first Acquire. The function remove deletes a directory with all
// that is in it.
func Open(dir string, remove func(path string) error) *Store { return &Store{dir, remove} }

// A Record is what a volume was made as.
type Record struct {
	Name    string
	Created time.Time
	Labels  map[string]string `json:",omitempty"`
	Options map[string]string `json:",omitempty"` // of docker's driver local: type, o and device
}

// Names in a volume's directory.
const (
	recordFile = "volume.json"
	lockFile   = "lock"
	dataDir    = "_data"
	newDir     = "new"
	readyDir   = "ready"
)

// Prefixes of directories that are being made, and that are gone. No volume has such a name.
const (
	newPrefix   = ".new-"
	trashPrefix = ".gone-"
)

// AnonymousLabel is docker's: a volume that got its name from nobody has it.
const AnonymousLabel = "com.docker.volume.anonymous"

// Anonymous reports whether nobody gave the volume a name.
func (r *Record) Anonymous() bool {
	_, ok := r.Labels[AnonymousLabel]
	return ok
}

// A NotFoundError says that there is no volume of a name.
type NotFoundError struct{ Name string }

// Error is docker's text.
func (e *NotFoundError) Error() string { return fmt.Sprintf("get %s: no such volume", e.Name) }

// maxName is the longest name in bytes, a file system's.
const maxName = 255

// CheckName refuses what cannot be a volume's name, in docker's words.
func CheckName(name string) error {
	const chars = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
	switch {
	case len(name) == 1:
		return words.Invalid("create %s: volume name is too short, names should be at least two alphanumeric characters", name)
	case len(name) > maxName:
		return words.Invalid("create %.20s…: volume name is too long, names should be at most %d bytes", name, maxName)
	case !regexp.MustCompile("^" + chars + "+$").MatchString(name):
		return words.Invalid("create %s: %q includes invalid characters for a local volume name, only %q are allowed. "+
			"If you intended to pass a host directory, use absolute path", name, name, chars)
	}
	return nil
}

// DataPath is where a volume's files are.
func (s *Store) DataPath(name string) string { return filepath.Join(s.dir, name, dataDir) }

// Record reads what a volume was made as. It fails with a *NotFoundError if there is none.
func (s *Store) Record(name string) (*Record, error) {
	if CheckName(name) != nil {
		return nil, &NotFoundError{name}
	}
	path := filepath.Join(s.dir, name, recordFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(filepath.Dir(path)); err != nil {
			return nil, &NotFoundError{name}
		}
	}
	if err != nil {
		return nil, err
	}
	r := new(Record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; forge system fsck --repair", path, err)
	}
	return r, nil
}

// Names lists the volumes, sorted.
func (s *Store) Names() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// Acquire makes a volume, unless there is one of that name, and locks it until the file is closed. It reports whether it made
// it. The time of the record is set.
func (s *Store) Acquire(ctx context.Context, r Record) (lock *os.File, made bool, err error) {
	if err := CheckName(r.Name); err != nil {
		return nil, false, err
	}
	for {
		made, err := s.create(r)
		if err != nil {
			return nil, false, fmt.Errorf("create %s: %w", r.Name, err)
		}
		lock, err := s.Lock(ctx, r.Name)
		if _, gone := errors.AsType[*NotFoundError](err); !gone {
			return lock, made, err
		}
	}
}

// create makes a volume aside, so that one that is there is whole.
func (s *Store) create(r Record) (made bool, err error) {
	dir := filepath.Join(s.dir, r.Name)
	if _, err := os.Lstat(dir); err == nil {
		return false, nil
	}
	if err := CheckOptions(r.Options); err != nil {
		return false, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return false, err
	}
	temp, err := flock.NewDir(s.dir, newPrefix)
	if err != nil {
		return false, err
	}
	defer func() {
		if !made {
			err = errors.Join(err, s.remove(temp.Name()))
		}
		err = errors.Join(err, temp.Close())
	}()
	r.Created = time.Now().UTC()
	if err := writeRecord(temp.Name(), &r); err != nil {
		return false, err
	}
	data := filepath.Join(temp.Name(), dataDir)
	// The mode given to mkdir is cut by the umask.
	if err := errors.Join(os.Mkdir(data, 0o755), os.Chmod(data, 0o755)); err != nil {
		return false, err
	}
	if err := failpoint.At("volume.create.made"); err != nil {
		return false, err
	}
	err = durable.Move(temp.Name(), dir)
	if _, statErr := os.Lstat(dir); err != nil && statErr == nil {
		return false, nil // somebody else was faster
	}
	return err == nil, err
}

func writeRecord(dir string, r *Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return durable.ReplaceFile(filepath.Join(dir, recordFile), b, 0o600)
}

// Lock locks a volume until the file is closed. It fails with a *NotFoundError if there is none.
func (s *Store) Lock(ctx context.Context, name string) (*os.File, error) {
	return s.lock(name, func(path string) (*os.File, error) { return flock.Lock(ctx, path, flock.Exclusive) })
}

// TryLock is Lock without waiting: the error is flock.ErrHeld if another has the lock.
func (s *Store) TryLock(name string) (*os.File, error) {
	return s.lock(name, func(path string) (*os.File, error) { return flock.TryLock(path, flock.Exclusive) })
}

func (s *Store) lock(name string, lock func(path string) (*os.File, error)) (*os.File, error) {
	if CheckName(name) != nil {
		return nil, &NotFoundError{name}
	}
	f, err := lock(filepath.Join(s.dir, name, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{name}
	}
	return f, err
}

// Remove deletes a volume with all that is in it, but nothing of a file system that it is the mount of. The caller holds its lock.
func (s *Store) Remove(name string) error {
	if err := s.unmountLocked(name); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	trash := filepath.Join(s.dir, trashPrefix+rand.Text())
	if err := durable.Move(filepath.Join(s.dir, name), trash); err != nil {
		return err
	}
	if err := failpoint.At("volume.remove.moved"); err != nil {
		return err
	}
	return s.remove(trash)
}

// Sweep deletes what processes that were killed have left: volumes half made and half deleted, and mounts that nobody uses. It waits for
// nobody: who has the lock of a volume is about to use it, or to remove it.
func (s *Store) Sweep() error {
	names, err := s.Names()
	for _, name := range names {
		releaseErr := s.release(name, func() (*os.File, error) { return s.TryLock(name) })
		if !errors.Is(releaseErr, flock.ErrHeld) {
			err = errors.Join(err, releaseErr)
		}
	}
	return errors.Join(err, flock.Sweep(s.dir, newPrefix, s.remove), flock.Sweep(s.dir, trashPrefix, s.remove))
}

// Check tells what is wrong with a volume; nil if nothing is.
func (s *Store) Check(name string) error {
	if _, err := s.Record(name); err != nil {
		return err
	}
	info, err := os.Lstat(s.DataPath(name))
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: s.DataPath(name), Err: syscall.ENOTDIR}
	}
	return err
}

// Repair makes what a volume lacks. What is there stays, but for a record that cannot be read.
func (s *Store) Repair(name string) error {
	dir := filepath.Join(s.dir, name)
	err := os.MkdirAll(s.DataPath(name), 0o755)
	if _, recordErr := s.Record(name); recordErr != nil {
		err = errors.Join(err, writeRecord(dir, &Record{Name: name, Created: time.Now().UTC()}))
	}
	return err
}
