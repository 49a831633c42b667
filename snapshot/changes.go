package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Changes is a set of changes to a tree, to be written as a layer with neither mount nor privilege. Contents are opened when
// they are written. Close it when it was committed. Not safe for concurrent use.
type Changes struct {
	below *View
	spill *filetree.Spill
	names filetree.Names // Flags is a changeState, with hidesBelow or without; File is one of files
	files []changedFile  // the first is of whatever is not put

	opens    []func() (io.ReadCloser, error)
	archives []Archive
	paths    []Paths
	links    map[linkKey]int32 // files that may get further names
	linked   bool              // some have

	lastDir  string // the directory that was found last
	lastID   int32
	lastMade bool // what lies below it is not seen
}

// A linkKey finds a file by what its caller says of it.
type linkKey struct {
	group string
	inode uint64
}

var errTooLong = fmt.Errorf("names, links and attributes take more than %d MiB", erofs.MaxMeta>>20)

type changeState = uint8

const (
	unchangedDir changeState = iota // a directory that stays, something in it changes
	put                             // is set
	removed                         // is hidden

	hidesBelow changeState = 1 << 7 // what lies below this directory is not seen
)

// NewChanges begins changes on top of below (nil: nothing lies below), which must stay open. Many of them are kept in files of
// the store.
func (s *Store) NewChanges(below *View) *Changes {
	if below == nil {
		below = new(View)
	}
	spill := s.spill()
	return &Changes{
		below: below, spill: spill, names: filetree.NewNames(spill), files: make([]changedFile, 1), links: make(map[linkKey]int32),
	}
}

// Close gives back what the changes are kept in.
func (c *Changes) Close() error { return c.spill.Close() }

// Put sets path (resolved, clean, relative) to e with the content that content.Open gives; Open is nil for anything but
// regular files and runs, beside others, while the changes are committed. The directory of path must be there. Later
// Puts win: one of a directory keeps what is in it, if it was one, and one of anything else replaces all.
func (c *Changes) Put(path string, e Entry, content Content) error {
	if err := checkName(path); err != nil {
		return err
	}
	f := changedFile{mode: e.Mode, uid: e.UID, gid: e.GID, size: e.Size}
	f.sec, f.nsec = e.UnixTime()
	if err := c.keepXattrs(&f, e.Xattrs); err != nil {
		return pathError("put", path, err)
	}
	t := e.Mode & unix.S_IFMT
	switch {
	case t == unix.S_IFCHR || t == unix.S_IFBLK:
		f.size = int64(e.Rdev)
	case t == unix.S_IFLNK:
		if c.names.Size()+len(e.Link) > erofs.MaxMeta {
			return pathError("put", path, errTooLong)
		}
		f.at, f.size = int64(c.names.Keep(e.Link)), int64(len(e.Link))
	case t == unix.S_IFREG && e.Size > 0 && content.Open == nil && content.Archive == nil && content.Paths == nil:
		return pathError("put", path, errors.New("a file of some size needs a content"))
	case t == unix.S_IFREG && e.Size >= erofs.MaxTar:
		return pathError("put", path, fmt.Errorf("%w: %d bytes, and a layer has less than %d", unix.EFBIG, e.Size, int64(erofs.MaxTar)))
	case t != unix.S_IFDIR && path == ".":
		return pathError("put", path, errors.New("the root can only be a directory"))
	}
	if content.Group == "" || t == unix.S_IFDIR {
		return c.set(path, c.addFile(f, content), put)
	}
	key := linkKey{content.Group, e.Inode}
	file, ok := c.links[key]
	if !ok {
		file = c.addFile(f, content)
		c.links[key] = file
	} else {
		c.addLink(file)
	}
	return c.set(path, file, put)
}

// Link gives the regular file at target, of the changes or below, a further name. One that lies below is put anew, so that both
// names are of one file in the layer.
func (c *Changes) Link(path, target string) error {
	id, err := c.find(target)
	if err == nil && id < 0 {
		var e Entry
		if e, err = c.below.Lstat(target); err == nil {
			err = c.Put(target, e, Content{Open: func() (io.ReadCloser, error) { return c.below.Open(target) }})
		}
		if err == nil {
			id, err = c.find(target)
		}
	}
	if err != nil {
		return err
	}
	file := c.names.List[id].File
	if c.files[file].mode&unix.S_IFMT != unix.S_IFREG {
		return pathError("link", target, unix.EPERM)
	}
	c.pin(file, target)
	c.addLink(file)
	return c.set(path, file, put)
}

// Remove hides path, and all that is in it. fs.ErrNotExist if it is not there.
func (c *Changes) Remove(path string) error {
	if path == "." {
		return pathError("remove", path, unix.EINVAL)
	}
	if _, err := c.Lookup(path); err != nil {
		return err
	}
	return c.set(path, 0, removed)
}

// set enters a change.
func (c *Changes) set(path string, file int32, state changeState) error {
	if path == "." {
		root := &c.names.List[0]
		root.File, root.Flags = file, state|root.Flags&hidesBelow
		return nil
	}
	parent, base := filetree.Split(path)
	dir, err := c.dir(parent)
	if err != nil {
		return pathError("put", path, err)
	}
	made := c.isOpaque(0)
	if dir != 0 {
		made = c.lastMade
	}
	if len(base) > filetree.MaxName {
		return pathError("put", path, unix.ENAMETOOLONG)
	}
	if id, ok := c.names.At(dir, base); ok {
		if state == put && c.files[file].mode&unix.S_IFMT == unix.S_IFDIR {
			old := &c.names.List[id]
			if c.isDirectory(id) {
				old.File, old.Flags = file, state|old.Flags&hidesBelow
				return nil
			}
			state |= hidesBelow
		}
		c.lastDir = "" // what is in it cannot be found any more
	} else if state == put && c.files[file].mode&unix.S_IFMT == unix.S_IFDIR && !made {
		// Most directories that are put are new. What is then put in them need not be looked for below.
		if e, err := c.below.Lstat(path); err == nil && e.Mode&unix.S_IFMT != unix.S_IFDIR || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			state |= hidesBelow
		}
	}
	return c.add(dir, base, file, state)
}

// add enters a change under a name.
func (c *Changes) add(dir int32, base string, file int32, state changeState) error {
	switch {
	case len(c.names.List) >= filetree.MaxEntries:
		return filetree.ErrTooMany
	case c.names.Size()+len(base) > erofs.MaxMeta:
		return errTooLong
	}
	id := c.names.Add(dir, base, file)
	c.names.List[id].Flags = state
	return nil
}

// stateOf is what becomes of a name.
func (c *Changes) stateOf(id int32) changeState { return c.names.List[id].Flags &^ hidesBelow }

func (c *Changes) isOpaque(id int32) bool { return c.names.List[id].Flags&hidesBelow != 0 }

// fileOf is the file that is put at a name.
func (c *Changes) fileOf(id int32) *changedFile { return &c.files[c.names.List[id].File] }

func (c *Changes) isDirectory(id int32) bool {
	state := c.stateOf(id)
	return state == unchangedDir || state == put && c.fileOf(id).mode&unix.S_IFMT == unix.S_IFDIR
}

// dir returns the directory at path as one that has changes.
func (c *Changes) dir(path string) (int32, error) {
	if path == "." {
		return 0, nil
	}
	id, made, rest := c.begin(path)
	if rest == "" {
		return id, nil
	}
	for rest != "" {
		var base string
		base, rest, _ = strings.Cut(rest, "/")
		next, ok := c.names.At(id, base)
		switch {
		case !ok:
			at := strings.TrimSuffix(path[:len(path)-len(rest)], "/")
			e, err := c.Lookup(at)
			if err != nil {
				return 0, errors.Unwrap(err)
			}
			if e.Mode&unix.S_IFMT != unix.S_IFDIR {
				return 0, unix.ENOTDIR
			}
			if err := c.add(id, base, 0, unchangedDir); err != nil {
				return 0, err
			}
			next, _ = c.names.At(id, base)
		case c.stateOf(next) == removed:
			return 0, unix.ENOENT
		case !c.isDirectory(next):
			return 0, unix.ENOTDIR
		}
		made = made || c.isOpaque(next)
		id = next
	}
	c.lastDir, c.lastID, c.lastMade = strings.Clone(path), id, made
	return id, nil
}

// begin is where a walk down path begins: at the directory that was found last, if it leads there, else at the root.
func (c *Changes) begin(path string) (id int32, made bool, rest string) {
	if below, ok := strings.CutPrefix(path, c.lastDir); ok && c.lastDir != "" {
		if rest, ok := strings.CutPrefix(below, "/"); ok || below == "" {
			return c.lastID, c.lastMade, rest
		}
	}
	return 0, c.isOpaque(0), path
}

// find returns the name at path, or -1 if what lies below counts.
func (c *Changes) find(path string) (int32, error) {
	id, made, rest := c.begin(path)
	for rest != "" && rest != "." {
		var base string
		base, rest, _ = strings.Cut(rest, "/")
		next, ok := c.names.At(id, base)
		switch {
		case !ok && made:
			return -1, unix.ENOENT
		case !ok:
			return -1, nil
		case c.stateOf(next) == removed:
			return -1, unix.ENOENT
		case !c.isDirectory(next) && rest != "":
			return -1, unix.ENOTDIR
		}
		made = made || c.isOpaque(next)
		id = next
	}
	if c.stateOf(id) == put {
		return id, nil
	}
	return -1, nil
}

// Lookup finds a path in the changes or below; it follows no link.
func (c *Changes) Lookup(path string) (Entry, error) {
	id, err := c.find(path)
	if err != nil {
		return Entry{}, pathError("lstat", path, err)
	}
	if id >= 0 {
		e := c.entry(id)
		if e.Link = strings.Clone(e.Link); id > 0 {
			_, e.Name = filetree.Split(path)
		}
		return e, nil
	}
	return c.below.Lstat(path)
}

// Open opens a regular file in the changes or below.
func (c *Changes) Open(path string) (io.ReadCloser, error) {
	id, err := c.find(path)
	if err != nil {
		return nil, pathError("open", path, err)
	}
	if id < 0 {
		return c.below.Open(path)
	}
	switch f := c.fileOf(id); {
	case f.mode&unix.S_IFMT != unix.S_IFREG:
		return nil, pathError("open", path, unix.EINVAL)
	case f.size == 0:
		return io.NopCloser(strings.NewReader("")), nil
	default:
		return c.openFile(c.names.List[id].File, path)
	}
}

// pathOf is the path of a name.
func (c *Changes) pathOf(id int32) string {
	if id == 0 {
		return "."
	}
	return c.join(c.pathOf(c.names.List[id].Parent), id)
}

// join is the path of a name in a directory. It can be used after Close.
func (c *Changes) join(dir string, id int32) string {
	if dir == "." {
		return strings.Clone(c.names.Base(id))
	}
	return dir + "/" + c.names.Base(id)
}
