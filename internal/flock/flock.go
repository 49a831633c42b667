// Package flock locks files and directories with flock(2), and keeps directories which belong to one process for its life.
//
// A lock belongs to the open file. It ends when the file is closed, or with the process, however that ends: so no lock
// outlives its owner, and what nobody holds is litter. All functions are safe for concurrent use, by processes too.
package flock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Mode says who else may hold a lock at the same time.
type Mode int

// The modes of flock(2).
const (
	Shared    Mode = syscall.LOCK_SH // all who want it shared
	Exclusive Mode = syscall.LOCK_EX // nobody
)

// ErrHeld means that another open file holds the lock.
var ErrHeld = errors.New("is locked by another process")

// Try takes the lock of an open file, or changes the mode of a lock that f holds. If another one is in the way, it is
// ErrHeld, and a lock that f held before may be lost.
func Try(f *os.File, m Mode) error {
	return lock(f, int(m)|syscall.LOCK_NB)
}

// Wait takes the lock of an open file as soon as it is free. It fails with the context's cause when that ends; f is then
// of no more use than to be closed, since it may still get the lock.
func Wait(ctx context.Context, f *os.File, m Mode) error {
	if err := Try(f, m); !errors.Is(err, ErrHeld) {
		return err
	}
	// A flock(2) that waits cannot be interrupted. It is left to itself when the context ends; if it gets the lock after
	// f was closed, the kernel gives the lock up at once, because the open file ends with the call.
	locked := make(chan error, 1)
	go func() { locked <- lock(f, int(m)) }()
	select {
	case err := <-locked:
		return err
	case <-ctx.Done():
		return fmt.Errorf("lock %s: %w", f.Name(), context.Cause(ctx))
	}
}

// lock calls flock(2). The descriptor cannot be given to another file before the call has ended.
func lock(f *os.File, how int) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = c.Control(func(fd uintptr) {
		for errno = syscall.EINTR; errno == syscall.EINTR; {
			errno = syscall.Flock(int(fd), how)
		}
	})
	switch {
	case err != nil:
		return err
	case errno == syscall.EWOULDBLOCK:
		return &fs.PathError{Op: "lock", Path: f.Name(), Err: ErrHeld}
	case errno != nil:
		return &fs.PathError{Op: "lock", Path: f.Name(), Err: errno}
	}
	return nil
}

// Lock opens a lock file, making it if there is none, and waits for its lock. In a file system that is mounted read-only
// the file must exist. Close gives the lock up.
func Lock(ctx context.Context, path string, m Mode) (*os.File, error) {
	return whileThere(path, openFile, func(f *os.File) error { return Wait(ctx, f, m) })
}

// TryLock is Lock without waiting: ErrHeld if another one has the lock.
func TryLock(path string, m Mode) (*os.File, error) {
	return whileThere(path, openFile, func(f *os.File) error { return Try(f, m) })
}

// LockDir waits for the lock of a directory, which must exist.
func LockDir(ctx context.Context, path string, m Mode) (*os.File, error) {
	return whileThere(path, openDir, func(f *os.File) error { return Wait(ctx, f, m) })
}

// TryLockDir is LockDir without waiting: ErrHeld if another one has the lock.
func TryLockDir(path string, m Mode) (*os.File, error) {
	return whileThere(path, openDir, func(f *os.File) error { return Try(f, m) })
}

// whileThere opens and locks what path names, again if path names something else afterwards: its last owner has removed
// or replaced it between the opening and the locking.
func whileThere(path string, open func(string) (*os.File, error), lock func(*os.File) error) (*os.File, error) {
	for {
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		if err := lock(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if Same(f) {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.EROFS) {
		return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	}
	return f, err
}

func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
}

// Same reports whether the path under which f was opened still names f.
func Same(f *os.File) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(opened, named)
}

// Held reports whether somebody holds the lock of a file or directory exclusively. It takes no lock that could be in the
// way of another one for longer than the question lasts.
func Held(path string) bool {
	// Without an os.File, which costs more calls of the system than the question: it is asked of every container, and of every address.
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Flock(fd, int(Shared)|syscall.LOCK_NB)
	}
	return err == syscall.EWOULDBLOCK
}

// Holder is the process that holds the lock of a file or directory exclusively; 0 if there is none, or it cannot be known.
func Holder(path string) int {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return 0
	}
	list, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(list)) { // 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF; who waits has -> behind the number
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[3] == "WRITE" && f[5] == file {
			pid, _ := strconv.Atoi(f[4])
			return max(pid, 0)
		}
	}
	return 0
}

// Unlock gives up the lock that f holds.
func Unlock(f *os.File) error { return lock(f, syscall.LOCK_UN) }
