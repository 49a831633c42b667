package snapshot

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

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
	changes := s.NewChanges(before)
	defer func() { err = errors.Join(err, changes.Close()) }()
	put := func(path string, e *Entry, _ *filetree.Sum) error {
		content := Content{Open: func() (io.ReadCloser, error) { return after.Open(path) }}
		if e.Nlink > 1 {
			content.Group = "squash"
		}
		return changes.Put(path, *e, content)
	}
	for _, d := range differences {
		switch {
		case slices.Contains(d.What, "removed"):
			err = changes.Remove(d.Path)
		case slices.Contains(d.What, "added"), slices.Contains(d.What, "type"):
			err = filetree.Walk(ctx, after, d.Path, put)
		default:
			var e Entry
			if e, err = after.Lstat(d.Path); err == nil {
				err = put(d.Path, &e, nil)
			}
		}
		if err != nil {
			return layer, err
		}
	}
	return s.Commit(ctx, changes, epoch)
}
