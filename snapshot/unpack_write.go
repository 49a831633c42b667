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

// writeSparse writes b at an offset of a new file but for blocks that are zero. They become holes if it is a multiple of sparseBlock.
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

// copyExtents writes a file whose data lies in a tar. The kernel copies, and shares blocks where the file system can. What is a hole
// in the tar, as zeros are, stays one.
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
		hole, data := nextData(int(tar.Fd()), from, left)
		from, at, left = from+hole, at+hole, left-hole
		if data == 0 {
			continue
		}
		n, err := unix.CopyFileRange(int(tar.Fd()), &from, dst, &at, int(min(data, 1<<30)), 0)
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
		if err := writeSparse(dst, buf[:n], at); err != nil {
			return err
		}
		from, at, left = from+int64(n), at+int64(n), left-int64(n)
	}
	return nil
}

// nextData is how long the hole at an offset of a file is, and the data behind it, of size bytes. A file that ends before that has no hole
// there, so that reading it tells.
func nextData(fd int, from, size int64) (hole, data int64) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size < from+size {
		return 0, size
	}
	start, err := unix.Seek(fd, from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) || err == nil && start >= from+size {
		return size, 0
	}
	if err != nil || start < from {
		return 0, size
	}
	end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
	if err != nil || end <= start {
		end = from + size
	}
	return start - from, min(end, from+size) - start
}
