package snapshot

import (
	"context"
	"errors"
	"io"
	"maps"
	"strings"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A Difference is a path at which two trees differ.
type Difference struct {
	Path string
	What []string // "added" or "removed", else of "type", "mode", "owner", "mtime", "link", "device", "xattr", "links" and "content"
}

func (d Difference) String() string { return d.Path + ": " + strings.Join(d.What, ", ") }

// Compare lists where two trees differ, in order of names, directories before what is in them. Of a directory that is
// added or removed, only itself is listed. Contents are compared by size, then by digest.
func Compare(ctx context.Context, before, after Tree) ([]Difference, error) {
	c := comparer{ctx: ctx, before: before, after: after, links: make(map[uint64]uint64), back: make(map[uint64]uint64)}
	a, err := before.Lstat(".")
	if err != nil {
		return nil, err
	}
	b, err := after.Lstat(".")
	if err != nil {
		return nil, err
	}
	return c.list, c.entry(".", &a, &b)
}

type comparer struct {
	ctx           context.Context
	before, after Tree
	list          []Difference
	links, back   map[uint64]uint64 // inodes with several names: which is which in the other tree
}

// entry compares what both trees have at a path.
func (c *comparer) entry(path string, a, b *Entry) error {
	what, err := c.compare(path, a, b)
	if err != nil {
		return err
	}
	if len(what) > 0 {
		c.list = append(c.list, Difference{path, what})
	}
	if a.Mode&b.Mode&modeType == modeDir && (a.Mode^b.Mode)&modeType == 0 {
		return c.dir(path)
	}
	return nil
}

// dir compares what is in a directory.
func (c *comparer) dir(path string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	a, err := filetree.ReadDir(c.before, path)
	if err != nil {
		return err
	}
	b, err := filetree.ReadDir(c.after, path)
	if err != nil {
		return err
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			c.list = append(c.list, Difference{joinPath(path, a[0].Name), []string{"removed"}})
			a = a[1:]
		case len(a) == 0 || b[0].Name < a[0].Name:
			c.list = append(c.list, Difference{joinPath(path, b[0].Name), []string{"added"}})
			b = b[1:]
		default:
			if err := c.entry(joinPath(path, a[0].Name), &a[0], &b[0]); err != nil {
				return err
			}
			a, b = a[1:], b[1:]
		}
	}
	return nil
}

// compare tells in what two entries differ.
func (c *comparer) compare(path string, a, b *Entry) (what []string, err error) {
	if (a.Mode^b.Mode)&modeType != 0 {
		return []string{"type"}, nil
	}
	for _, d := range []struct {
		differs bool
		what    string
	}{
		{a.Mode != b.Mode, "mode"},
		{a.UID != b.UID || a.GID != b.GID, "owner"},
		{!a.ModTime.Equal(b.ModTime), "mtime"},
		{a.Link != b.Link, "link"},
		{a.Rdev != b.Rdev, "device"},
		{!maps.Equal(a.Xattrs, b.Xattrs), "xattr"},
		{!c.sameLinks(a, b), "links"},
	} {
		if d.differs {
			what = append(what, d.what)
		}
	}
	if a.Mode&modeType != modeRegular {
		return what, nil
	}
	same := a.Size == b.Size
	if same && a.Size > 0 {
		x, err := c.before.Sum(path)
		if err != nil {
			return nil, err
		}
		y, err := c.after.Sum(path)
		if err != nil {
			return nil, err
		}
		same = x == y
	}
	if !same {
		what = append(what, "content")
	}
	return what, nil
}

// sameLinks tells whether two files have the same names: whenever one inode comes again, the other must.
func (c *comparer) sameLinks(a, b *Entry) bool {
	if a.Mode&modeType == modeDir || a.Nlink < 2 && b.Nlink < 2 {
		return true
	}
	other, seen := c.links[a.Inode]
	back, seenBack := c.back[b.Inode]
	c.links[a.Inode], c.back[b.Inode] = b.Inode, a.Inode
	return seen == seenBack && (!seen || other == b.Inode && back == a.Inode)
}

// Flatten writes what layers sum up to as one layer, staged: nothing in it is hidden, and it hides nothing.
func (s *Store) Flatten(ctx context.Context, layers []image.Layer) (layer image.Layer, err error) {
	v, err := s.View(ctx, layers)
	if err != nil {
		return image.Layer{}, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	w := s.newLayerWriter(ctx)
	defer func() { err = errors.Join(err, w.Close()) }() // first: it reads the view
	f := flattener{ctx: ctx, tree: v, w: w, links: make(map[uint64]string)}
	if err := f.root(); err != nil {
		return image.Layer{}, err
	}
	return w.Commit(ctx)
}

// A flattener writes a whole tree.
type flattener struct {
	ctx   context.Context
	tree  Tree
	w     entryWriter
	links map[uint64]string // first path of inodes with several names
}

// An entryWriter takes entries of a tree: a *layerWriter does.
type entryWriter interface {
	Add(path string, e Entry, open func() (io.ReadCloser, error)) error
	Link(path, target string) error
}

func (f *flattener) root() error {
	e, err := f.tree.Lstat(".")
	if err != nil {
		return err
	}
	if err := f.w.Add(".", e, nil); err != nil {
		return err
	}
	return f.dir(".")
}

func (f *flattener) dir(dir string) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	list, err := filetree.ReadDir(f.tree, dir)
	if err != nil {
		return err
	}
	for i := range list {
		e, path := &list[i], joinPath(dir, list[i].Name)
		if target, ok := f.links[e.Inode]; ok && e.Nlink > 1 && e.Mode&modeType != modeDir {
			if err := f.w.Link(path, target); err != nil {
				return err
			}
			continue
		}
		if e.Nlink > 1 {
			f.links[e.Inode] = path
		}
		if err := f.w.Add(path, *e, func() (io.ReadCloser, error) { return f.tree.Open(path) }); err != nil {
			return err
		}
		if e.Mode&modeType == modeDir {
			if err := f.dir(path); err != nil {
				return err
			}
		}
	}
	return nil
}
