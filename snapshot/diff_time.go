package snapshot

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A scratchFile finds out what becomes of a time in the file system of a draft: ext4 ends in 2446 and begins in 1901, others
// know whole seconds only. What a layer says is not to depend on where it was made.
type scratchFile struct {
	dir  int // a directory of the file system
	file *os.File
}

// restore returns the time that a file has below if the time it has here is what the file system made of that one.
func (s *scratchFile) restore(here, below time.Time) (time.Time, error) {
	if sec := below.Unix(); sec >= 0 && sec < 1<<31 && (here.Nanosecond() != 0 || below.Nanosecond() == 0) || here.Equal(below) {
		return here, nil // any file system can keep the one below
	}
	if s.file == nil {
		fd, err := unix.Openat(s.dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOENT) {
			return here, nil
		}
		if err != nil {
			return here, os.NewSyscallError("open O_TMPFILE", err)
		}
		s.file = os.NewFile(uintptr(fd), "scratch")
	}
	fd := int(s.file.Fd())
	if err := futimes(fd, &Entry{ModTime: below}); err != nil {
		return here, os.NewSyscallError("utimensat", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return here, os.NewSyscallError("fstat", err)
	}
	if time.Unix(st.Mtim.Unix()).Equal(here) {
		return below, nil
	}
	return here, nil
}

func (s *scratchFile) close() {
	if s.file != nil {
		s.file.Close()
	}
}
