package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/internal/openat"
	"github.com/forge-build/forge/snapshot/filetree"
)

// OpenData opens what is to be mounted of a volume, only for that: all of it, or a file or directory in it. Links in the volume
// are followed inside of it. The file system that a volume is stays mounted until [Store.Release].
func (s *Store) OpenData(ctx context.Context, name, subpath string) (_ *os.File, err error) {
	r, err := s.Record(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil { // nobody else does it then
			err = errors.Join(err, s.Release(context.WithoutCancel(ctx), name))
		}
	}()
	if err := s.settle(ctx, name); err != nil {
		return nil, err
	}
	var dir *os.File
	switch {
	case r.IsDevice():
		dir, err = s.openDevice(ctx, r)
	case r.Options["device"] != "": // the user's own directory, who may reach it by links
		dir, err = openDir(r.Options["device"], 0)
	default:
		dir, err = openDir(s.DataPath(name), unix.O_NOFOLLOW)
	}
	if err != nil || subpath == "" {
		return dir, err
	}
	path := filepath.Join(dir.Name(), subpath)
	fd, err := openat.InRoot(int(dir.Fd()), subpath, unix.O_PATH)
	err = errors.Join(err, dir.Close())
	if err != nil {
		return nil, fmt.Errorf("volume %s: subpath %q: %w", name, subpath, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openDir opens a directory.
func openDir(path string, flags int) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|flags, 0)
}

// ErrNothing is what a copy returns that there is nothing for.
var ErrNothing = errors.New("there is nothing to copy")

// Fill gives a volume that is empty the files that copyTo writes into a directory, and that directory's owner, mode and
// attributes. One that is not empty, or is a directory of this machine, is left as it is, and any if copyTo returns ErrNothing. The
// caller holds the volume's lock.
func (s *Store) Fill(ctx context.Context, name string, copyTo func(dir *os.File) error) (err error) {
	r, err := s.Record(name)
	switch {
	case err != nil:
		return err
	case r.IsDevice():
		return s.fillDevice(ctx, r, copyTo)
	case r.Options["device"] != "":
		return nil
	}
	if err := s.settleLocked(name); err != nil {
		return err
	}
	empty, err := isEmpty(s.DataPath(name))
	if err != nil || !empty {
		return err
	}
	aside := filepath.Join(s.dir, name, newDir)
	defer func() { err = errors.Join(err, s.clear(aside)) }()
	if err := s.clear(aside); err != nil { // of one that was killed
		return err
	}
	if err := os.Mkdir(aside, 0o755); err != nil {
		return err
	}
	dir, err := openDir(aside, unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	err = errors.Join(copyTo(dir), dir.Close())
	if errors.Is(err, ErrNothing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	if err := failpoint.At("volume.fill.copied"); err != nil {
		return err
	}
	if err := durable.Move(aside, filepath.Join(s.dir, name, readyDir)); err != nil {
		return err
	}
	return s.settleLocked(name)
}

// fillDevice copies into the file system that a volume is, if that is empty. One that forgets all when it is unmounted is left as it is.
func (s *Store) fillDevice(ctx context.Context, r *Record, copyTo func(dir *os.File) error) (err error) {
	if r.Forgets() {
		return nil
	}
	path := s.DataPath(r.Name)
	if err := s.mountLocked(ctx, r); err != nil {
		return err
	}
	defer func() {
		if unmountErr := s.unmountLocked(r.Name); !errors.Is(unmountErr, errBusy) {
			err = errors.Join(err, unmountErr)
		}
	}()
	empty, err := isEmpty(path)
	if err != nil || !empty {
		return err
	}
	dir, err := openDir(path, unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	if err = copyTo(dir); errors.Is(err, ErrNothing) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}

// clear removes a directory, if it is there.
func (s *Store) clear(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.remove(path)
}

func isEmpty(path string) (bool, error) {
	dir, err := openDir(path, unix.O_NOFOLLOW)
	if err != nil {
		return false, err
	}
	_, err = dir.Readdirnames(1)
	closeErr := dir.Close()
	if errors.Is(err, io.EOF) {
		return true, closeErr
	}
	return false, errors.Join(err, closeErr)
}

// settle ends what a process that was killed has begun. Whoever holds the lock of the volume does so himself.
func (s *Store) settle(ctx context.Context, name string) error {
	if _, err := os.Lstat(filepath.Join(s.dir, name, readyDir)); err != nil {
		return nil //nolint:nilerr // there is nothing to do
	}
	lock, err := s.Lock(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(s.settleLocked(name), lock.Close())
}

// settleLocked moves a copy that is whole to its place, file by file, since the place itself may be mounted somewhere. What has
// been put there meanwhile stays.
func (s *Store) settleLocked(name string) (err error) {
	path := filepath.Join(s.dir, name, readyDir)
	ready, err := openDir(path, unix.O_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ready.Close()) }()
	data, err := openDir(s.DataPath(name), unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	var st unix.Stat_t
	if err := unix.Fstat(int(ready.Fd()), &st); err != nil {
		return err
	}
	names, err := ready.Readdirnames(-1)
	if err != nil {
		return err
	}
	for i, n := range names {
		err := durable.MoveNew(filepath.Join(path, n), filepath.Join(data.Name(), n))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if i == len(names)/2 {
			if err := failpoint.At("volume.fill.moving"); err != nil {
				return err
			}
		}
	}
	if err := copyMetadata(int(data.Fd()), int(ready.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", data.Name(), err)
	}
	return s.remove(path)
}

// copyMetadata gives a directory what another one has: owner, attributes, mode and times, in this order, as each takes away
// something of those behind it.
func copyMetadata(to, from int, st *unix.Stat_t) error {
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	names := make([]byte, 64<<10) // the kernel's bound
	n, err := unix.Flistxattr(from, names)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	value := make([]byte, 64<<10)
	for _, name := range splitNames(names[:max(n, 0)]) {
		if !filetree.KeepXattr(name) {
			continue
		}
		n, err := unix.Fgetxattr(from, name, value)
		if err == nil {
			err = unix.Fsetxattr(to, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	if err := unix.Fchmod(to, st.Mode&filetree.ModePerm); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, "", []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_EMPTY_PATH)
}

// splitNames splits a list of names, each with a zero byte behind it.
func splitNames(b []byte) (names []string) {
	start := 0
	for i, c := range b {
		if c == 0 {
			names = append(names, string(b[start:i]))
			start = i + 1
		}
	}
	return names
}
