package executor

import (
	"context"
	"fmt"
	"io"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
)

// linkIndependent tells whether the layer of a COPY or ADD is the same whatever lies below it. As in BuildKit, --chmod
// takes that from --link.
func linkIndependent(op *planner.Copy) bool { return op.Link && op.Chmod == "" }

// describeCopy adds to h what the sources hold. A source that is missing is found out here, before anything is done.
func (w *Local) describeCopy(ctx context.Context, job Job, op *planner.Copy, h *cache.Hash) error {
	if linkIndependent(op) && parseChown(op.Chown).byName() {
		return fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead", op.Chown)
	}
	if _, err := parseModeChange(op.Chmod); err != nil {
		return err
	}
	for _, src := range op.Sources {
		var err error
		switch {
		case src.File != nil: // the build file holds it
		case src.URL != "":
			err = w.describeURL(ctx, op, src.URL, h)
		case src.Git != nil:
			err = w.describeGit(ctx, src.Git, h)
		default:
			err = w.describeSource(ctx, job, op, src.Path, h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// doCopy writes what is copied as a layer: straight from where it is read, with neither mount nor privilege.
func (w *Local) doCopy(ctx context.Context, job Job, op *planner.Copy, _ io.Writer) (_ image.Layer, err error) {
	var below *snapshot.View
	if !linkIndependent(op) && len(job.On) > 0 {
		if below, err = w.view(ctx, job.On); err != nil {
			return image.Layer{}, err
		}
	}
	c := &copier{changes: snapshot.NewChanges(below)}
	if below != nil {
		c.below = below
	}
	if c.mode, err = parseModeChange(op.Chmod); err != nil {
		return image.Layer{}, err
	}
	if op.Chown != "" {
		o, err := parseChown(op.Chown).resolve(c.below)
		if err != nil {
			return image.Layer{}, fmt.Errorf("--chown=%s: %w", op.Chown, err)
		}
		c.owner = &o
	}
	var open closers
	defer func() { err = open.close(err) }()
	for _, src := range op.Sources {
		if err := w.copySource(ctx, job, op, src, c, &open); err != nil {
			return image.Layer{}, err
		}
	}
	return w.Snapshots.Commit(ctx, c.changes, w.Epoch)
}

// copySource puts one source into the changes. What has to stay open until they are committed is added to open.
func (w *Local) copySource(ctx context.Context, job Job, op *planner.Copy, src planner.Source, c *copier, open *closers) error {
	switch {
	case src.File != nil:
		f, err := w.heredoc(src.File)
		if err != nil {
			return err
		}
		return c.copy(ctx, f, op.Dest)
	case src.URL != "":
		return w.copyURL(ctx, op, src.URL, c, open)
	case src.Git != nil:
		return w.copyGit(ctx, op, src.Git, c, open)
	}
	tree, err := w.tree(ctx, job, op.From)
	if err != nil {
		return err
	}
	found, err := selections(ctx, tree, op, src.Path)
	if err != nil {
		return err
	}
	unpack := op.Add != nil && (op.Add.Unpack == nil || *op.Add.Unpack)
	for i := range found {
		if unpack {
			done, err := w.unpack(ctx, &found[i], op.Dest, c, open)
			if err != nil {
				return fmt.Errorf("%s: %w", found[i].named, err)
			}
			if done {
				continue
			}
		}
		if err := c.copy(ctx, &found[i], op.Dest); err != nil {
			return err
		}
	}
	return nil
}

// A closers holds what is to be closed when the layer has been written, last opened first.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

// close closes all and returns the first error, err itself before any.
func (c *closers) close(err error) error {
	for i := len(*c) - 1; i >= 0; i-- {
		if e := (*c)[i](); e != nil && err == nil {
			err = e
		}
	}
	*c = nil
	return err
}
