package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/source"
)

// doCopy writes what is copied as a layer: straight from where it is read, with neither mount nor privilege.
func (w *Worker) doCopy(ctx context.Context, job executor.Job, op *planner.Copy) (_ image.Layer, err error) {
	end, err := w.begin(ctx)
	if err != nil {
		return image.Layer{}, err
	}
	defer end()
	var below *snapshot.View
	if !op.Independent() && len(job.On) > 0 {
		if below, err = w.Inputs.Layers.View(ctx, job.On); err != nil {
			return image.Layer{}, err
		}
	}
	c := &copier{changes: w.Inputs.Layers.Snapshots.NewChanges(below)}
	c.open.Push(c.changes.Close)
	defer func() { err = errors.Join(err, c.open.Close()) }()
	if below != nil {
		c.below = below
	}
	if c.mode, err = planner.ParseMode(op.Chmod); err != nil {
		return image.Layer{}, err
	}
	if op.Chown != "" {
		o, err := owner(planner.ParseChown(op.Chown), c.below)
		if err != nil {
			return image.Layer{}, fmt.Errorf("--chown=%s: %w", op.Chown, err)
		}
		c.owner = &o
	}
	for n := range op.Sources {
		if err := w.copySource(ctx, job, op, n, c); err != nil {
			return image.Layer{}, err
		}
	}
	return w.Inputs.Layers.Snapshots.Commit(ctx, c.changes, job.Epoch)
}

// copySource puts one source into the changes.
func (w *Worker) copySource(ctx context.Context, job executor.Job, op *planner.Copy, n int, c *copier) error {
	src := op.Sources[n]
	switch {
	case src.File != nil:
		f, err := heredoc(src.File, job.Epoch)
		if err != nil {
			return err
		}
		return c.copy(ctx, f, op.Dest)
	case src.URL != "":
		return w.copyURL(ctx, job, op, n, c)
	case src.Git != nil:
		return w.copyGit(ctx, job, op, n, c)
	}
	tree, err := w.tree(ctx, job, n, op.From)
	if err != nil {
		return err
	}
	found, err := source.Select(ctx, tree, source.QueryOf(op, n))
	if err != nil {
		return err
	}
	unpack := op.Add != nil && (op.Add.Unpack == nil || *op.Add.Unpack)
	for i := range found {
		if unpack {
			done, err := w.unpack(ctx, &found[i], op.Dest, c)
			if err != nil {
				return fmt.Errorf("%s: %w", found[i].Named, err)
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

// owner looks names up in the passwd and group files of root, which may be nil. An unknown name is 0, or the user's own
// group: BuildKit's rule.
func owner(c planner.Chown, root snapshot.Tree) (o source.Owner, err error) {
	if id := c.User.ID; id != nil {
		o = source.Owner{UID: *id, GID: *id}
	} else if c.User.Name != "" {
		u, err := container.LookupUser(root, c.User.Name)
		if err == nil {
			o = source.Owner{UID: u.UID, GID: u.GID}
		} else if !isUnknown(err) {
			return o, err
		}
	}
	if id := c.Group.ID; id != nil {
		o.GID = *id
	} else if c.Group.Name != "" {
		u, err := container.LookupUser(root, ":"+c.Group.Name)
		if err == nil {
			o.GID = u.GID
		} else if !isUnknown(err) {
			return o, err
		}
	}
	return o, nil
}

func isUnknown(err error) bool {
	_, ok := errors.AsType[runtime.UnknownUserError](err)
	return ok
}
