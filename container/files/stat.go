package files

import (
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// A Stat is what docker's API says of a file in a container. Field names are docker's.
type Stat struct {
	Name       string      `json:"name"`
	Size       int64       `json:"size"`
	Mode       fs.FileMode `json:"mode"`
	Mtime      time.Time   `json:"mtime"`
	LinkTarget string      `json:"linkTarget"` // absolute, in the container; "" if it is no link
}

// Stat describes the source.
func (s *Source) Stat() (Stat, error) {
	e, err := s.Tree.Lstat(s.Path)
	if err != nil {
		return Stat{}, err
	}
	st := Stat{Name: s.Name, Size: e.Size, Mode: fileMode(e.Mode), Mtime: e.ModTime}
	if e.Mode&unix.S_IFMT == unix.S_IFLNK {
		st.LinkTarget = e.Link
		if !path.IsAbs(st.LinkTarget) {
			st.LinkTarget = path.Join(path.Dir(s.shown), st.LinkTarget)
		}
	}
	return st, nil
}

// fileMode is a mode of stat(2) as Go has it.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, is := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= is
		}
	}
	return m | map[uint32]fs.FileMode{
		unix.S_IFDIR: fs.ModeDir, unix.S_IFLNK: fs.ModeSymlink, unix.S_IFIFO: fs.ModeNamedPipe, unix.S_IFSOCK: fs.ModeSocket,
		unix.S_IFCHR: fs.ModeDevice | fs.ModeCharDevice, unix.S_IFBLK: fs.ModeDevice,
	}[mode&unix.S_IFMT]
}
