package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// A Dir is a directory of the host as a tree, as build contexts are: everything belongs to 0:0, sockets are empty files,
// there are no xattrs, and what the ignore patterns hide is not there. A directory is read when it is first asked for and
// never again, so that all who use a Dir see the same files; a file whose content is read after it has changed fails.
//
// All access is by descriptor, and no link is followed by the kernel; the directory may belong to an enemy. Safe for
// concurrent use.
type Dir struct {
	path   string   // for people
	root   int      // descriptor
	self   dirFile  // the root itself
	top    *dirNode // what is in it
	ignore []string // patterns, in order; nil hides nothing
	stats  *statCache
	ctx    context.Context         // of who reads directories; nil never ends
	now    func() time.Time        // by which a file is old enough to be remembered
	last   atomic.Pointer[dirNode] // where the last name was found, since names come in order

	tools dirTools

	mu   sync.Mutex // guards sums
	sums []sumRecord
}

// dirTools are what readers of a Dir use one after the other.
type dirTools struct {
	buffers sync.Pool // of *[hashBuffer]byte
	loaders sync.Pool // of *dirLoader
	held    heldDirs
	opened  sync.Once // the first content, when digests have been asked for
}

// A dirNode is a directory of a Dir.
type dirNode struct {
	path   string  // relative to the root, "." being the root
	hidden bool    // but something in it may not be
	skip   matched // what the ignore patterns say about it

	mu    sync.Mutex // guards the reading
	ready atomic.Bool
	files []dirFile // sorted by name
	aux   map[string]dirAux
	err   error
}

// A dirFile is a file of a directory. There are tens of thousands of these, and memory that was never touched before is
// the dearest part of a walk: it is kept small.
type dirFile struct {
	name         string
	sub          *dirNode // of a directory
	ino          uint64
	size         int64
	mtime, ctime int64 // ns
	mode         uint32
	nlink        uint32
	dev          uint32
	sum          uint32 // atomic: 1 + place in the index, or ^place in Dir.sums; 0 is unknown
}

// A dirAux is what few files have.
type dirAux struct {
	link string
	rdev uint64
}

// OpenDir opens a directory of the host as a tree. The patterns of ignore hide what a .dockerignore with these lines
// hides (last match wins, "!" re-opens). Digests are remembered in statsFile by inode, size, times and mode; "" remembers
// nothing, and a damaged file is an empty one.
func OpenDir(dir string, ignore []string, statsFile string) (*Dir, error) {
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		_ = unix.Close(root)
		return nil, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	d := &Dir{path: dir, root: root, ignore: ignore, stats: openStatCache(statsFile), now: time.Now}
	d.top = &dirNode{path: "."}
	setStat(&d.self, &st, d.stats)
	d.self.name = "."
	if _, err := newPatterns(ignore); err != nil {
		return nil, errors.Join(fmt.Errorf("ignore patterns: %w", err), d.Close())
	}
	return d, nil
}

// Close writes the index if there is anything new in it. The Dir cannot be used any more; closing again does nothing.
func (d *Dir) Close() error {
	if d.root < 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tools.held.close()
	err := d.stats.close(d.sums)
	if e := unix.Close(d.root); e != nil {
		err = errors.Join(err, &fs.PathError{Op: "close", Path: d.path, Err: e})
	}
	d.root = -1
	return err
}

// find returns the file called name and the directory that holds it (nil for the root).
func (d *Dir) find(op, name string) (*dirFile, *dirNode, error) {
	if name == "." || name == "" {
		return &d.self, nil, nil
	}
	dir, base := path.Split(name)
	n, err := d.dir(op, strings.TrimSuffix(dir, "/"))
	if err != nil {
		return nil, nil, err
	}
	f := n.child(base)
	if f == nil {
		return nil, nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return f, n, nil
}

// dir returns the directory called name, read.
func (d *Dir) dir(op, name string) (*dirNode, error) {
	if n := d.last.Load(); n != nil && n.path == name {
		return n, nil
	}
	n := d.top
	if err := d.read(n); err != nil {
		return nil, err
	}
	for rest := name; rest != "" && rest != "."; {
		var elem string
		elem, rest, _ = strings.Cut(rest, "/")
		f := n.child(elem)
		switch {
		case f == nil:
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		case f.sub == nil:
			return nil, &fs.PathError{Op: op, Path: name, Err: unix.ENOTDIR}
		}
		n = f.sub
		if err := d.read(n); err != nil {
			return nil, err
		}
	}
	d.last.Store(n)
	return n, nil
}

// child finds a file of n, which has been read.
func (n *dirNode) child(name string) *dirFile {
	lo, hi := 0, len(n.files)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if n.files[mid].name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(n.files) && n.files[lo].name == name {
		return &n.files[lo]
	}
	return nil
}

// entry fills e with what is known of f.
func (f *dirFile) entry(n *dirNode, e *filetree.Entry) {
	*e = filetree.Entry{
		Name:    f.name,
		Mode:    f.mode,
		Size:    f.size,
		ModTime: time.Unix(0, f.mtime),
		Nlink:   f.nlink,
		Inode:   f.ino ^ uint64(f.dev)<<40,
	}
	if n != nil && n.aux != nil {
		aux := n.aux[f.name]
		e.Link, e.Rdev = aux.link, aux.rdev
	}
}

// Lstat implements [filetree.Tree].
func (d *Dir) Lstat(name string) (filetree.Entry, error) {
	f, n, err := d.find("lstat", name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && d.hides(name) {
			err = &fs.PathError{Op: "lstat", Path: name, Err: filetree.ErrHidden}
		}
		return filetree.Entry{}, err
	}
	var e filetree.Entry
	f.entry(n, &e)
	return e, nil
}

// List implements [filetree.Tree].
func (d *Dir) List(name string, fn func(e *filetree.Entry, sum *filetree.Sum) error) error {
	n, err := d.dir("readdir", name)
	if err != nil {
		return err
	}
	var e filetree.Entry
	for i := range n.files {
		n.files[i].entry(n, &e)
		var sum *filetree.Sum
		if e.Mode&unix.S_IFMT == unix.S_IFREG {
			sum = d.known(&n.files[i])
		}
		if err := fn(&e, sum); err != nil {
			return err
		}
	}
	return nil
}

// hides reports whether name, which is not in the tree, is a file of the directory: the ignore patterns hide it.
func (d *Dir) hides(name string) bool {
	if len(d.ignore) == 0 {
		return false
	}
	fd, err := d.openat(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
