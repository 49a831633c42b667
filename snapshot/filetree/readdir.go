package filetree

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// Offsets in struct linux_dirent64, see getdents64(2).
const (
	direntReclen = 16
	direntType   = 18
	direntName   = 19
)

// ReadNames reads an open directory with getdents64(2) and calls fn for each name in it but "." and "..", in no order, with
// the type that the file system tells, DT_UNKNOWN if it does not. A name is valid until fn returns, whose error ends the
// reading, and a zero byte follows it: name[:len(name)+1] can be given to a system call. buf is used for the system calls.
func ReadNames(fd int, buf []byte, fn func(name []byte, kind uint8) error) error {
	for {
		n, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		for rest := buf[:n]; len(rest) > direntName; {
			e := rest[:binary.NativeEndian.Uint16(rest[direntReclen:])]
			rest = rest[len(e):]
			name := e[direntName:]
			name = name[:bytes.IndexByte(name, 0)]
			if string(name) == "." || string(name) == ".." {
				continue
			}
			if err := fn(name, e[direntType]); err != nil {
				return err
			}
		}
	}
}
