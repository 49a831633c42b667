package snapshot

import (
	"errors"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// Changes is a set of changes to a tree, to be written as a layer with neither mount nor privilege. It costs some 200
// bytes a file; contents are opened when they are written. Not safe for concurrent use.
type Changes struct {
	below  *View
	nodes  []change // the first is the root
	at     map[nameKey]int32
	groups map[string]int32

	lastDir string // the directory that was found last
	lastID  int32
}

// A nameKey finds a name in a directory.
type nameKey struct {
	dir  int32
	name string
}

// A change is what is to become of one path.
type change struct {
	name   string
	parent int32
	group  int32 // of hard links, 0: none
	state  changeState
	opaque bool // what lies below this directory is not seen

	mode, uid, gid uint32
	nsec           uint32
	sec            int64
	size           int64 // of a device its number
	inode          uint64
	link           string
	xattrs         map[string]string
	open           func() (io.ReadCloser, error)
}

type changeState uint8

const (
	unchangedDir changeState = iota // a directory that stays, something in it changes
	put                             // is set
	removed                         // is hidden
	replaced                        // nothing: another change has taken its place
)

// Content opens a regular file's content. Files of one tree that have the same Group and the same Inode are hard links of
// each other.
type Content struct {
	Open  func() (io.ReadCloser, error)
	Group string // "" has no hard links
}

// NewChanges begins changes on top of below (nil: nothing lies below), which must stay open.
func NewChanges(below *View) *Changes {
	if below == nil {
		below = new(View)
	}
	return &Changes{below: below, nodes: make([]change, 1), at: make(map[nameKey]int32), groups: make(map[string]int32)}
}

// Put sets path (resolved, clean, relative) to e with the content that content.Open gives; Open is nil for anything but
// regular files and runs, beside others, while the changes are committed. The directory of path must be there. Later
// Puts win: one of a directory keeps what is in it, if it was one, and one of anything else replaces all.
func (c *Changes) Put(path string, e Entry, content Content) error {
	if err := checkName(path); err != nil {
		return err
	}
	n := change{
		state: put, mode: e.Mode, uid: e.UID, gid: e.GID, size: e.Size, inode: e.Inode,
		link: e.Link, xattrs: e.Xattrs, open: content.Open,
	}
	n.sec, n.nsec = e.UnixTime()
	switch t := e.Mode & unix.S_IFMT; {
	case t == unix.S_IFCHR || t == unix.S_IFBLK:
		n.size = int64(e.Rdev)
	case t == unix.S_IFREG && e.Size > 0 && content.Open == nil:
		return pathError("put", path, errors.New("a file of some size needs a content"))
	case t != unix.S_IFDIR && path == ".":
		return pathError("put", path, errors.New("the root can only be a directory"))
	}
	if content.Group != "" && e.Mode&unix.S_IFMT != unix.S_IFDIR {
		if n.group = c.groups[content.Group]; n.group == 0 {
			n.group = int32(len(c.groups) + 1)
			c.groups[content.Group] = n.group
		}
	}
	return c.set(path, n)
}

// Remove hides path, and all that is in it. fs.ErrNotExist if it is not there.
func (c *Changes) Remove(path string) error {
	if path == "." {
		return pathError("remove", path, unix.EINVAL)
	}
	if _, err := c.Lookup(path); err != nil {
		return err
	}
	return c.set(path, change{state: removed})
}

// set enters a change.
func (c *Changes) set(path string, n change) error {
	isDir := n.state == put && n.mode&unix.S_IFMT == unix.S_IFDIR
	if path == "." {
		n.name, n.opaque = "", c.nodes[0].opaque
		c.nodes[0] = n
		return nil
	}
	parent, base := filetree.Split(path)
	dir, err := c.dir(parent)
	if err != nil {
		return pathError("put", path, err)
	}
	n.parent = dir
	key := nameKey{dir, base}
	id, ok := c.at[key]
	if !ok {
		n.name = strings.Clone(base)
		c.append(n)
		return nil
	}
	old := &c.nodes[id]
	n.name = old.name
	if isDir {
		if n.opaque = old.opaque || !old.isDir(); old.isDir() {
			*old = n
			return nil
		}
	}
	old.state = replaced // and what is in it cannot be found any more
	c.lastDir = ""
	c.append(n)
	return nil
}

// append adds a change under its name.
func (c *Changes) append(n change) int32 {
	id := int32(len(c.nodes))
	c.nodes = append(c.nodes, n)
	c.at[nameKey{n.parent, n.name}] = id
	return id
}

func (n *change) isDir() bool {
	return n.state == unchangedDir || n.state == put && n.mode&unix.S_IFMT == unix.S_IFDIR
}

// dir returns the directory at path as one that has changes.
func (c *Changes) dir(path string) (int32, error) {
	if path == "." {
		return 0, nil
	}
	if path == c.lastDir {
		return c.lastID, nil
	}
	parent, base := filetree.Split(path)
	up, err := c.dir(parent)
	if err != nil {
		return 0, err
	}
	id, ok := c.at[nameKey{up, base}]
	switch {
	case !ok:
		e, err := c.Lookup(path)
		if err != nil {
			return 0, errors.Unwrap(err)
		}
		if e.Mode&unix.S_IFMT != unix.S_IFDIR {
			return 0, unix.ENOTDIR
		}
		id = c.append(change{name: strings.Clone(base), parent: up})
	case c.nodes[id].state == removed:
		return 0, unix.ENOENT
	case !c.nodes[id].isDir():
		return 0, unix.ENOTDIR
	}
	c.lastDir, c.lastID = strings.Clone(path), id
	return id, nil
}

// entry makes an Entry of a change that is put.
func (n *change) entry() Entry {
	e := Entry{
		Name: n.name, Mode: n.mode, UID: n.uid, GID: n.gid, Size: n.size, ModTime: time.Unix(n.sec, int64(n.nsec)),
		Link: n.link, Nlink: 1, Inode: n.inode, Xattrs: n.xattrs,
	}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Size, e.Rdev = 0, uint64(n.size)
	case unix.S_IFDIR:
		e.Size, e.Nlink = 0, 2
	}
	return e
}

// find returns the change at path, or nil if what lies below counts.
func (c *Changes) find(path string) (*change, error) {
	id, made := int32(0), c.nodes[0].opaque
	for rest := path; rest != "" && path != "."; {
		var base string
		base, rest, _ = strings.Cut(rest, "/")
		next, ok := c.at[nameKey{id, base}]
		if !ok {
			if made {
				return nil, unix.ENOENT
			}
			return nil, nil
		}
		n := &c.nodes[next]
		switch {
		case n.state == removed:
			return nil, unix.ENOENT
		case !n.isDir() && rest != "":
			return nil, unix.ENOTDIR
		}
		made = made || n.opaque
		id = next
	}
	if n := &c.nodes[id]; n.state == put {
		return n, nil
	}
	return nil, nil
}

// Lookup finds a path in the changes or below; it follows no link.
func (c *Changes) Lookup(path string) (Entry, error) {
	n, err := c.find(path)
	if err != nil {
		return Entry{}, pathError("lstat", path, err)
	}
	if n != nil {
		return n.entry(), nil
	}
	e, err := c.below.Lstat(path)
	if errors.Is(err, unix.ENOTDIR) {
		// A directory may have been put where something else lies below; then there is nothing in it.
		if dir, _ := filetree.Split(path); c.isDir(dir) {
			return Entry{}, pathError("lstat", path, unix.ENOENT)
		}
	}
	return e, err
}

func (c *Changes) isDir(path string) bool {
	e, err := c.Lookup(path)
	return err == nil && e.Mode&unix.S_IFMT == unix.S_IFDIR
}

// Open opens a regular file in the changes or below.
func (c *Changes) Open(path string) (io.ReadCloser, error) {
	n, err := c.find(path)
	switch {
	case err != nil:
		return nil, pathError("open", path, err)
	case n == nil:
		return c.below.Open(path)
	case n.mode&unix.S_IFMT != unix.S_IFREG:
		return nil, pathError("open", path, unix.EINVAL)
	case n.size == 0:
		return io.NopCloser(strings.NewReader("")), nil
	}
	return n.open()
}

// pathOf is the path of a change.
func (c *Changes) pathOf(id int32) string {
	if id == 0 {
		return "."
	}
	return filetree.Join(c.pathOf(c.nodes[id].parent), c.nodes[id].name)
}
