package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Output opens a destination that the user has named.
//
//   - A file is written aside and put at its place by Commit; until then what was there stays. It keeps its permission bits
//     and, where the caller may give it away, its owner. A new one gets 0666 less the umask.
//   - A link stands for its target.
//   - A file that something is mounted on, as docker run -v FILE:FILE and /dev/termination-log of Kubernetes are, is emptied and written in
//     place: nothing else can be put there.
//   - A pipe, a terminal or another device is written to as the data comes. So is /dev/stdout, /dev/fd/N and other names of
//     a descriptor that the process was given, whatever that is.
//   - A directory and a socket are errors, and so is a link to nothing.
//
// When ctx ends, opening and writing end, too, even if nobody reads the pipe.
func Output(ctx context.Context, path string) (*File, error) {
	if n, ok := descriptor(path); ok {
		f, err := inherited(path, n, unix.O_WRONLY)
		if err != nil {
			return nil, err
		}
		return &File{w: &patient{ctx, f}, f: f}, nil
	}
	path, st, err := target(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Create(path, 0o666)
	case err != nil:
		return nil, err
	case st.Mode().IsRegular() && !isMounted(path):
		return replacement(path, st)
	}
	if err := refuse(path, st); err != nil {
		return nil, err
	}
	f, err := openWriting(ctx, path)
	if err != nil {
		return nil, err
	}
	return &File{w: &patient{ctx, f}, f: f}, nil
}

// CheckOutput reports why [Output] would refuse a destination, if that can be known before it is opened. It is for those
// who have long work to do before they have something to write.
func CheckOutput(path string) error {
	if _, ok := descriptor(path); ok {
		return nil
	}
	path, st, err := target(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if dir, err := os.Stat(filepath.Dir(path)); err != nil {
			return err
		} else if !dir.IsDir() {
			return fmt.Errorf("%s is not a directory", filepath.Dir(path))
		}
		return nil
	case err != nil:
		return err
	}
	return refuse(path, st)
}

// refuse is the error for what nothing can be written to.
func refuse(path string, st fs.FileInfo) error {
	switch {
	case st.IsDir():
		return fmt.Errorf("%s is a directory: name a file in it", path)
	case st.Mode()&fs.ModeSocket != 0:
		return fmt.Errorf("%s is a socket, which cannot be opened for writing: name a file or a pipe", path)
	}
	return nil
}

// WriteOutput writes a small file at a destination that the user has named.
func WriteOutput(ctx context.Context, path string, data []byte) (err error) {
	f, err := Output(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// target follows a link to what it names. The kernel is asked first, because it refuses to follow links that another user
// has planted in a directory such as /tmp (protected_symlinks, proc_sys_fs(5)).
func target(path string) (string, fs.FileInfo, error) {
	if strings.HasSuffix(path, "/") {
		return path, nil, fmt.Errorf("%s is the name of a directory: name a file", path)
	}
	st, err := os.Lstat(path)
	if err != nil || st.Mode()&fs.ModeSymlink == 0 {
		return path, st, err
	}
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil, fmt.Errorf("%s is a link to a file that does not exist: remove it or name another file", path)
	}
	if err != nil {
		return path, nil, err
	}
	defer f.Close()
	opened, err := f.Stat()
	if err != nil {
		return path, nil, err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return path, nil, err
	}
	named, err := os.Lstat(real)
	if err == nil && !os.SameFile(opened, named) {
		err = fmt.Errorf("%s leads to different files at different times", path)
	}
	return real, named, err
}

// replacement is a new file for the place of an old one.
func replacement(path string, old fs.FileInfo) (*File, error) {
	f, err := Create(path, old.Mode().Perm())
	if err != nil {
		return nil, err
	}
	if st, ok := old.Sys().(*unix.Stat_t); ok {
		_ = f.f.Chown(int(st.Uid), int(st.Gid)) // as far as the caller may
	}
	if err := f.f.Chmod(old.Mode().Perm()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openPause is the time between two attempts to open a pipe that nobody reads.
const openPause = 20 * time.Millisecond

// openWriting opens what is written in place. A pipe is opened when somebody reads it.
func openWriting(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if !errors.Is(err, unix.ENXIO) || !isPipe(path) {
			return f, err
		}
		select {
		case <-time.After(openPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: nobody has opened the pipe for reading: %w", path, context.Cause(ctx))
		}
	}
}

// isMounted reports whether something is mounted on a file, as far as the kernel tells (statx(2), Linux 5.8).
func isMounted(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

func isPipe(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&fs.ModeNamedPipe != 0
}

// A patient writer waits for whoever reads, until its context ends.
type patient struct {
	ctx context.Context
	w   io.Writer
}

func (p *patient) Write(data []byte) (int, error) {
	data = bytes.Clone(data) // what is left in the kernel has one of its own
	return patiently(p.ctx, func() (int, error) { return p.w.Write(data) })
}
