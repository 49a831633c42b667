package snapshot

import (
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// An Entry is one file of a tree: its metadata, all but the content.
type Entry struct {
	Name    string // base name; names are bytes
	Mode    uint32 // as of stat(2): type and permission bits with suid, sgid, sticky
	UID     uint32
	GID     uint32
	Size    int64
	ModTime time.Time
	Link    string // target of a symbolic link
	Rdev    uint64 // of a device, as unix.Mkdev
	Nlink   uint32
	Inode   uint64            // equal for hard links of one file within one tree
	Xattrs  map[string]string // user.* and security.capability; nil if none
}

// unixTime splits the time. No time is the epoch.
func (e *Entry) unixTime() (sec int64, nsec uint32) {
	if e.ModTime.IsZero() {
		return 0, 0
	}
	return e.ModTime.Unix(), uint32(e.ModTime.Nanosecond())
}

// A Tree is a file tree to read from. All names are relative to its root, clean, "/"-separated, "." being the root; no
// method follows a link in any component, except Resolve. Implemented by *View and *Dir. Safe for concurrent use.
type Tree interface {
	Lstat(name string) (Entry, error)          // fs.ErrNotExist, ENOTDIR
	ReadDir(name string) ([]Entry, error)      // sorted by name
	Open(name string) (io.ReadCloser, error)   // regular files
	Digest(name string) (digest.Digest, error) // of a regular file's content; remembered where that is possible

	// Resolve follows links inside the root, clamping ".."; the last one too if follow. The path up to a missing
	// component is resolved, the rest kept, with error fs.ErrNotExist.
	Resolve(name string, follow bool) (string, error)
}
