//go:build !amd64

package source

import "golang.org/x/sys/unix"

// fstatat is lstat of a NUL-terminated name.
func fstatat(dir int, name []byte, st *unix.Stat_t) error {
	for {
		err := unix.Fstatat(dir, string(name[:len(name)-1]), st, unix.AT_SYMLINK_NOFOLLOW)
		if err != unix.EINTR {
			return err
		}
	}
}
