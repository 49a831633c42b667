// Package fusefile makes files whose content is asked for when it is read.
package fusefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A File is open for reading. Others open it by its descriptor, in /proc/self/fd. Nothing is mounted where anybody sees it. Close ends it:
// what is still open fails with ENOTCONN then, as it does when the process ends.
type File struct {
	*os.File
	mount int // a mount whose root is the file
}

// Open makes a file of so many bytes, which r has. It is read by several at once. An error of r is an I/O error of who reads. The caller has to have
// CAP_SYS_ADMIN and /dev/fuse (fuse(4), Linux 5.2).
func Open(r io.ReaderAt, size int64) (_ *File, err error) {
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	mount, err := mountFile(dev)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mount fuse: %w", err), unix.Close(dev))
	}
	go serve(os.NewFile(uintptr(dev), "/dev/fuse"), r, size) // until the mount is gone; only now can the device be polled
	fd, err := openUnpolled(fmt.Sprintf("/proc/self/fd/%d", mount))
	if err != nil {
		return nil, errors.Join(err, unix.Close(mount))
	}
	return &File{os.NewFile(uintptr(fd), "layer"), mount}, nil
}

// Close implements io.Closer.
func (f *File) Close() error { return errors.Join(f.File.Close(), unix.Close(f.mount)) }

// openUnpolled opens the file, and has the kernel learn that it cannot be polled. Package os asks that of each file that it opens, by a call during
// which no other goroutine runs on its processor: the answer might never come.
func openUnpolled(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil && !errors.Is(err, unix.EINTR) {
		return -1, errors.Join(os.NewSyscallError("poll", err), unix.Close(fd))
	}
	return fd, nil
}

// mountFile makes a mount that is attached nowhere and whose root is a regular file.
func mountFile(dev int) (int, error) {
	fc, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fc)
	for _, option := range [][2]string{{"source", "forge"}, {"fd", strconv.Itoa(dev)}, {"rootmode", "100444"}, {"user_id", "0"}, {"group_id", "0"}} {
		if err := unix.FsconfigSetString(fc, option[0], option[1]); err != nil {
			return -1, fmt.Errorf("option %s: %w", option[0], err)
		}
	}
	if err := unix.FsconfigCreate(fc); err != nil {
		return -1, err
	}
	return unix.Fsmount(fc, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
}
