package snapshot

import (
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A changedFile is a file that is put. It has no pointers: there may be millions.
type changedFile struct {
	sec, size int64 // size is of a device its number
	at        int64 // of the content in its archive, of a link's target in the names, or below 0 which of the paths, counted from -1
	mode      uint32
	uid, gid  uint32
	nsec      uint32
	xattrs    uint32 // where in the names they are, as an index has them
	open      int32  // which of the opens, or below 0 of the archives, counted from -1

	first, written int32 // while it is committed: the first of its names, and the one it was written under
	flags          uint8 // hasLinks and others
}

// Content opens a regular file's content: by Open, by an archive, or by the path that it is put at; the last two cost no memory. Files
// that have the same Group and the same Inode are hard links of each other; what the first says of them counts.
type Content struct {
	Open    func() (io.ReadCloser, error)
	Archive Archive // unless nil, has the content, at At
	At      int64
	Paths   Paths  // unless nil, has the content
	Group   string // "" has no hard links
}

// An Archive opens contents by where they are in it. Safe for concurrent use.
type Archive interface {
	OpenAt(at int64) (io.ReadCloser, error)
}

// Paths open contents by the paths that these are put at. Safe for concurrent use.
type Paths interface {
	OpenPut(path string) (io.ReadCloser, error)
}

// addFile keeps a file and what opens it, and returns its number.
func (c *Changes) addFile(f changedFile, content Content) int32 {
	switch {
	case f.mode&unix.S_IFMT != unix.S_IFREG:
	case content.Archive != nil:
		if n := len(c.archives); n == 0 || c.archives[n-1] != content.Archive {
			c.archives = append(c.archives, content.Archive)
		}
		f.open, f.at = -int32(len(c.archives)), content.At
	case content.Paths != nil:
		if n := len(c.paths); n == 0 || c.paths[n-1] != content.Paths {
			c.paths = append(c.paths, content.Paths)
		}
		f.at = -int64(len(c.paths))
	case content.Open != nil:
		f.open = int32(len(c.opens))
		c.opens = append(c.opens, content.Open)
	}
	c.files = append(filetree.Grow(c.spill, c.files, 1), f)
	return int32(len(c.files) - 1)
}

// addLink notes that a file gets a further name.
func (c *Changes) addLink(file int32) {
	c.files[file].flags |= hasLinks
	c.linked = true
}

// keepXattrs keeps the attributes of a file.
func (c *Changes) keepXattrs(f *changedFile, xattrs map[string]string) error {
	set, err := erofs.EncodeXattrs(xattrs)
	switch {
	case err != nil || set == "":
		return err
	case c.names.Size()+len(set) > erofs.MaxMeta:
		return errTooLong
	}
	f.xattrs = c.names.KeepSet(set)
	return nil
}

// openFile opens the content of a regular file that was put at a path.
func (c *Changes) openFile(file int32, path string) (io.ReadCloser, error) {
	f := &c.files[file]
	switch {
	case f.open < 0:
		return c.archives[-f.open-1].OpenAt(f.at)
	case f.at < 0:
		return c.paths[-f.at-1].OpenPut(path)
	}
	return c.opens[f.open]()
}

// pin keeps by which path a file is opened: it gets names that it is not put at.
func (c *Changes) pin(file int32, path string) {
	f := &c.files[file]
	if f.at >= 0 {
		return
	}
	paths := c.paths[-f.at-1]
	f.at, f.open = 0, int32(len(c.opens))
	c.opens = append(c.opens, func() (io.ReadCloser, error) { return paths.OpenPut(path) })
}

// entry makes an Entry of a name that is put, which is not to be used after Close. Its Inode is of no file below.
func (c *Changes) entry(id int32) Entry {
	f := c.fileOf(id)
	e := Entry{
		Name: c.names.Base(id), Mode: f.mode, UID: f.uid, GID: f.gid, ModTime: time.Unix(f.sec, int64(f.nsec)), Nlink: 1,
		Inode: ^uint64(c.names.List[id].File),
	}
	if f.xattrs != 0 {
		e.Xattrs = map[string]string{}
		_ = erofs.DecodeXattrs([]byte(c.names.SetText(f.xattrs)), func(name, value string) { e.Xattrs[name] = value }) // our own
	}
	switch f.mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Rdev = uint64(f.size)
	case unix.S_IFLNK:
		e.Link, e.Size = c.names.Text(uint32(f.at), int(f.size)), f.size
	case unix.S_IFDIR:
		e.Nlink = 2
	default:
		e.Size = f.size
	}
	return e
}
