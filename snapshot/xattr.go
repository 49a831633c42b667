package snapshot

import (
	"errors"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readXattrs returns the attributes of a file in a directory that pass. It does not follow a link.
func readXattrs(dir int, file string, pass func(name string) bool) (map[string]string, error) {
	var small [1024]byte
	list, err := grow(small[:], func(b []byte) (int, error) { return listXattrs(dir, file, b) })
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(list) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var xattrs map[string]string
	path := procPath(dir) + "/" + file
	for name := range strings.SplitSeq(string(list), "\x00") {
		if name == "" || !pass(name) {
			continue
		}
		value, err := grow(small[:], func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if xattrs == nil {
			xattrs = make(map[string]string)
		}
		xattrs[name] = string(value)
	}
	return xattrs, nil
}

// grow calls with bigger buffers until the answer fits. The kernel allows 64 KiB.
func grow(buf []byte, call func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := call(buf)
		if errors.Is(err, unix.ERANGE) && len(buf) < 64<<10 {
			buf = make([]byte, 64<<10)
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

// listXattrs is listxattrat(2) or, where the kernel has none (before Linux 6.13) or a filter does not know it, what is as
// good and takes longer. Nearly all files have no attributes, so that this is all that is asked of them.
func listXattrs(dir int, file string, buf []byte) (int, error) {
	name, err := unix.BytePtrFromString(file)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(name)),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.ENOSYS, unix.EPERM:
		return listXattrsByPath(dir, file, buf)
	}
	return 0, errno
}

func listXattrsByPath(dir int, file string, buf []byte) (int, error) {
	return unix.Llistxattr(procPath(dir)+"/"+file, buf)
}
