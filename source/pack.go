package source

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strconv"
	"syscall"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Pack makes a layer of what the n'th input of an operation selects of a build context: each file at its own path, with the
// links that lead to it. A worker that has not the context does the same with the layer. Owners are those of the context,
// and what its ignore file hides is not there. Nothing in it is younger than epoch, unless that is nil.
func (r *Resolver) Pack(ctx context.Context, op planner.Op, n int, epoch *time.Time) (_ image.Layer, err error) {
	in, selections := r.selected(op, n)
	if in == nil || in.Read >= 0 {
		return image.Layer{}, errors.New("only what is read of a build context is made a layer")
	}
	tree, err := r.context(in.Context)
	if err != nil {
		return image.Layer{}, err
	}
	changes := r.Layers.Snapshots.NewChanges(nil)
	defer func() { err = errors.Join(err, changes.Close()) }()
	p := &packer{recorder: recorder{Tree: tree, links: map[string]filetree.Entry{}}, changes: changes}
	found, err := selections(ctx, &p.recorder)
	if err != nil {
		return image.Layer{}, err
	}
	for i := range found {
		if err := p.add(ctx, &found[i], strconv.Itoa(i)); err != nil {
			return image.Layer{}, err
		}
	}
	for name, e := range p.links {
		if err := p.put(name, e, snapshot.Content{}); err != nil {
			return image.Layer{}, err
		}
	}
	return r.Layers.Snapshots.Commit(ctx, p.changes, epoch)
}

// A recorder is a tree that notes which links were looked at.
type recorder struct {
	filetree.Tree
	links map[string]filetree.Entry
}

// Lstat implements [filetree.Tree].
func (r *recorder) Lstat(name string) (filetree.Entry, error) {
	e, err := r.Tree.Lstat(name)
	if err == nil && e.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		r.links[name] = e
	}
	return e, err
}

// A packer puts selections of one tree into changes.
type packer struct {
	recorder
	changes *snapshot.Changes
}

// add puts what is selected. Names of one file in one selection stay names of one file.
func (p *packer) add(ctx context.Context, s *Selection, group string) error {
	return s.Walk(ctx, func(it *Item) error {
		var content snapshot.Content
		name := s.Path(it)
		switch it.Entry.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			content.Open = func() (io.ReadCloser, error) { return p.Open(name) }
			if it.Entry.Nlink > 1 {
				content.Group = group
			}
		case syscall.S_IFDIR, syscall.S_IFLNK:
		default:
			if s.mounted {
				return nil // a device or a pipe of this machine has no business in a mount
			}
		}
		return p.put(name, *it.Entry, content)
	})
}

// put puts a file, after the directories above it.
func (p *packer) put(name string, e filetree.Entry, content snapshot.Content) error {
	if err := p.parents(name); err != nil {
		return err
	}
	if name != "." {
		e.Name = path.Base(name)
	}
	return p.changes.Put(name, e, content)
}

// parents puts the directories above a file that are not there yet.
func (p *packer) parents(name string) error {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	_, err := p.changes.Lookup(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	e, err := p.Lstat(dir)
	if err != nil {
		return err
	}
	return p.put(dir, e, snapshot.Content{})
}
