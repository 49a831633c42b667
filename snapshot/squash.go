package snapshot

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Squash writes what the layers above change of those below as one layer, staged. No time is after epoch if it is not nil.
func (s *Store) Squash(ctx context.Context, below, above []image.Layer, epoch *time.Time) (layer image.Layer, err error) {
	before, err := s.View(ctx, below)
	if err != nil {
		return layer, err
	}
	defer func() { err = errors.Join(err, before.Close()) }()
	after, err := s.View(ctx, slices.Concat(below, above))
	if err != nil {
		return layer, err
	}
	defer func() { err = errors.Join(err, after.Close()) }()
	differences, err := Compare(ctx, before, after)
	if err != nil {
		return layer, err
	}
	q := squasher{tree: after, changes: NewChanges(before)}
	for _, d := range differences {
		if err := q.change(ctx, d); err != nil {
			return layer, err
		}
	}
	return s.Commit(ctx, q.changes, epoch)
}

type squasher struct {
	tree    *View
	changes *Changes
}

func (q *squasher) change(ctx context.Context, d Difference) error {
	switch {
	case slices.Contains(d.What, "removed"):
		return q.changes.Remove(d.Path)
	case slices.Contains(d.What, "added"), slices.Contains(d.What, "type"):
		return q.put(ctx, d.Path, true)
	}
	return q.put(ctx, d.Path, false)
}

// put takes a path over, and all beneath it if deep.
func (q *squasher) put(ctx context.Context, name string, deep bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e, err := q.tree.Lstat(name)
	if err != nil {
		return err
	}
	content := Content{Open: func() (io.ReadCloser, error) { return q.tree.Open(name) }}
	if e.Nlink > 1 {
		content.Group = "squash"
	}
	if err := q.changes.Put(name, e, content); err != nil || !deep || e.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	list, err := filetree.ReadDir(q.tree, name)
	if err != nil {
		return err
	}
	for _, child := range list {
		if err := q.put(ctx, path.Join(name, child.Name), true); err != nil {
			return err
		}
	}
	return nil
}
