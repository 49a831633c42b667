package snapshot

import (
	"bytes"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// sparseBlock is what is written or left out as a whole; file systems cannot leave holes of less.
const sparseBlock = 4096

// writeSparse writes b at an offset, a multiple of sparseBlock, but for blocks that are zero.
func writeSparse(fd int, b []byte, at int64) error {
	var zero [sparseBlock]byte
	for len(b) > 0 {
		hole := 0
		for hole < len(b) {
			n := min(len(b)-hole, sparseBlock)
			if !bytes.Equal(b[hole:hole+n], zero[:n]) {
				break
			}
			hole += n
		}
		b, at = b[hole:], at+int64(hole)
		data := 0
		for data < len(b) {
			n := min(len(b)-data, sparseBlock)
			if bytes.Equal(b[data:data+n], zero[:n]) {
				break
			}
			data += n
		}
		if err := writeAt(fd, b[:data], at); err != nil {
			return err
		}
		b, at = b[data:], at+int64(data)
	}
	return nil
}

func writeAt(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// copyExtents writes a file whose data lies in a tar. The kernel copies, and shares blocks where the file system can.
func copyExtents(dst int, tar *os.File, extents []filetree.Extent, buf []byte) error {
	at := int64(0)
	for _, e := range extents {
		if e.At >= 0 {
			if err := copyRange(dst, at, tar, e, buf); err != nil {
				return err
			}
		}
		at += e.Size
	}
	return nil
}

func copyRange(dst int, at int64, tar *os.File, e filetree.Extent, buf []byte) error {
	from, left := e.At, e.Size
	for left > int64(len(buf)) {
		n, err := unix.CopyFileRange(int(tar.Fd()), &from, dst, &at, int(min(left, 1<<30)), 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			break // not between these file systems, or not at all: read and write
		}
		left -= int64(n)
	}
	for left > 0 {
		n, err := tar.ReadAt(buf[:min(left, int64(len(buf)))], from)
		if n == 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := writeAt(dst, buf[:n], at); err != nil {
			return err
		}
		from, at, left = from+int64(n), at+int64(n), left-int64(n)
	}
	return nil
}
