package snapshot

import (
	"context"
	"maps"
	"strings"

	"golang.org/x/sys/unix"

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
	if a.Mode&b.Mode&unix.S_IFMT == unix.S_IFDIR && (a.Mode^b.Mode)&unix.S_IFMT == 0 {
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
	return filetree.Merge(a, b, filetree.EntryName, filetree.EntryName, func(a, b *Entry) error {
		switch {
		case b == nil:
			c.list = append(c.list, Difference{filetree.Join(path, a.Name), []string{"removed"}})
		case a == nil:
			c.list = append(c.list, Difference{filetree.Join(path, b.Name), []string{"added"}})
		default:
			return c.entry(filetree.Join(path, a.Name), a, b)
		}
		return nil
	})
}

// compare tells in what two entries differ.
func (c *comparer) compare(path string, a, b *Entry) (what []string, err error) {
	if (a.Mode^b.Mode)&unix.S_IFMT != 0 {
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
	if a.Mode&unix.S_IFMT != unix.S_IFREG {
		return what, nil
	}
	same := a.Size == b.Size
	if same && a.Size > 0 {
		x, err := c.before.Sum(c.ctx, path)
		if err != nil {
			return nil, err
		}
		y, err := c.after.Sum(c.ctx, path)
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

// sameLinks reports whether two files have the same names: whenever one inode comes again, the other must.
func (c *comparer) sameLinks(a, b *Entry) bool {
	if a.Mode&unix.S_IFMT == unix.S_IFDIR || a.Nlink < 2 && b.Nlink < 2 {
		return true
	}
	other, seen := c.links[a.Inode]
	back, seenBack := c.back[b.Inode]
	c.links[a.Inode], c.back[b.Inode] = b.Inode, a.Inode
	return seen == seenBack && (!seen || other == b.Inode && back == a.Inode)
}
