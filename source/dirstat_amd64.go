package source

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// fstatat is lstat of a NUL-terminated name as getdents gave it: a copy of each name would cost as much as the call.
func fstatat(dir int, name []byte, st *unix.Stat_t) error {
	for {
		_, _, e := unix.Syscall6(unix.SYS_NEWFSTATAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(st)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
		switch e {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return e
	}
}
