package snapshot

import (
	"context"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// PlaceOptions say how files are put beside those of others.
type PlaceOptions struct {
	At     string // the directory, for errors
	Owners bool   // files get the owners that the tree says, else this process's

	Owner   *[2]uint32 // with Owners: the user and the group that all files get in the place of those that the tree says; nil is none
	Replace bool       // a directory makes room for another file with all that is in it, and another file for a directory
}

// conflict is docker's error for a directory where there is none, or the other way round.
func (o *PlaceOptions) conflict(there, here, at string) error {
	return fmt.Errorf("cannot overwrite %s %q with %s %q", there, path.Join(o.At, at), here, o.At)
}

// Place writes a tree into an open directory, which may be somebody else's and in use: directories are merged, other files
// replaced, and neither becomes the other unless the options say so. The directory itself stays as it is. Nothing is written outside of it, whatever
// links are in it or appear in it. Devices are left out where they cannot be made, attributes where they cannot be kept.
func Place(ctx context.Context, tree Tree, dir *os.File, o PlaceOptions) error {
	root, err := tree.Lstat(".")
	if err != nil {
		return err
	}
	u := newUnpacker(ctx, int(dir.Fd()), readRights())
	u.place = &o
	return u.unpack(unpackTree(tree, ".", root))
}

// PlaceLayer is Place for what is in the tar of a layer. Directories that it only implies stay as they are, if they are there.
func (s *Store) PlaceLayer(ctx context.Context, layer image.Layer, dir *os.File, o PlaceOptions) error {
	return s.withIndex(ctx, layer, func(root unpackEntry) error {
		u := newUnpacker(ctx, int(dir.Fd()), s.rights())
		u.place = &o
		return u.unpack(root)
	})
}

// A Part is a part of a tree as a tree of its own: the file at Path, called Name, in an empty directory, or, without a name, what
// is in the directory at Path.
type Part struct {
	Tree Tree
	Path string // clean, relative
	Name string
	Root bool // everything belongs to root

	// Size is how many bytes the tar of what has been listed takes.
	Size int64
}

// in is the name in the tree.
func (p *Part) in(name string) string {
	if p.Name == "" {
		return filetree.Join(p.Path, name)
	}
	if name == p.Name {
		return p.Path
	}
	return filetree.Join(p.Path, name[min(len(name), len(p.Name)+1):])
}

func (p *Part) change(e *Entry) {
	if p.Root {
		e.UID, e.GID = 0, 0
	}
}

// Lstat implements [Tree].
func (p *Part) Lstat(name string) (Entry, error) {
	if p.Name != "" && name == "." {
		return Entry{Name: ".", Mode: unix.S_IFDIR | 0o755, Nlink: 2}, nil
	}
	e, err := p.Tree.Lstat(p.in(name))
	p.change(&e)
	return e, err
}

// List implements [Tree].
func (p *Part) List(name string, fn func(e *Entry, sum *filetree.Sum) error) error {
	change := func(e *Entry, sum *filetree.Sum) error {
		p.change(e)
		p.Size += layertar.Block
		if e.Mode&unix.S_IFMT == unix.S_IFREG {
			p.Size += layertar.Padded(e.Size)
		}
		return fn(e, sum)
	}
	if p.Name == "" || name != "." {
		return p.Tree.List(p.in(name), change)
	}
	e, err := p.Tree.Lstat(p.Path)
	if err != nil {
		return err
	}
	e.Name = p.Name
	return change(&e, nil)
}

// Open implements [Tree].
func (p *Part) Open(name string) (filetree.File, error) { return p.Tree.Open(p.in(name)) }

// Sum implements [Tree].
func (p *Part) Sum(ctx context.Context, name string) (filetree.Sum, error) {
	return p.Tree.Sum(ctx, p.in(name))
}

// Load implements [Tree].
func (p *Part) Load(ctx context.Context, name string) error { return p.Tree.Load(ctx, p.in(name)) }
