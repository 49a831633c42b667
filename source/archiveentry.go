package source

import (
	"archive/tar"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/snapshot/filetree"
)

// maxID is the largest uid or gid: the one after it means "no change" to the kernel.
const maxID = 1<<32 - 2

// entryOf translates the header of a tar, hard links apart. Owner o, unless nil, is everybody's.
func entryOf(h *tar.Header, o *Owner) (filetree.Entry, error) {
	e := filetree.Entry{Mode: uint32(h.Mode) & 0o7777, ModTime: h.ModTime, Nlink: 1}
	if e.ModTime.Before(time.Unix(0, 0)) {
		e.ModTime = time.Unix(0, 0)
	}
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return e, fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	e.UID, e.GID = uint32(h.Uid), uint32(h.Gid)
	if o != nil {
		e.UID, e.GID = o.UID, o.GID
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Mode |= syscall.S_IFREG
		e.Size = h.Size
	case tar.TypeDir:
		e.Mode |= syscall.S_IFDIR
		e.Nlink = 2
	case tar.TypeSymlink:
		e.Mode = syscall.S_IFLNK | 0o777
		e.Link, e.Size = h.Linkname, int64(len(h.Linkname))
	case tar.TypeChar:
		e.Mode |= syscall.S_IFCHR
		e.Rdev = deviceNumber(h.Devmajor, h.Devminor)
	case tar.TypeBlock:
		e.Mode |= syscall.S_IFBLK
		e.Rdev = deviceNumber(h.Devmajor, h.Devminor)
	case tar.TypeFifo:
		e.Mode |= syscall.S_IFIFO
	default:
		return e, fmt.Errorf("unhandled tar header type %q", h.Typeflag)
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || !strings.HasPrefix(name, "user.") && name != "security.capability" || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		if e.Xattrs == nil {
			e.Xattrs = make(map[string]string)
		}
		e.Xattrs[name] = value
	}
	return e, nil
}

// deviceNumber is makedev(3).
func deviceNumber(major, minor int64) uint64 {
	ma, mi := uint64(uint32(major)), uint64(uint32(minor))
	return ma&0xfffff000<<32 | ma&0xfff<<8 | mi&0xffffff00<<12 | mi&0xff
}
