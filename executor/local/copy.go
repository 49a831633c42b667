package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
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
	c := &copier{changes: w.Inputs.Layers.Snapshots.NewChanges(below), made: map[string]snapshot.Entry{}}
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
	if op.Independent() {
		w.warnOfParents(ctx, job, op, c.made)
	}
	return w.Inputs.Layers.Snapshots.Commit(ctx, c.changes, job.Epoch)
}

// warnOfParents says which directories on the way to the destination of a COPY --link are otherwise in the file system below: the
// layer, which does not know that, makes them anew. A base image whose layers are not here is not fetched for that.
func (w *Worker) warnOfParents(ctx context.Context, job executor.Job, op *planner.Copy, made map[string]snapshot.Entry) {
	if len(job.On) == 0 || len(made) == 0 {
		return
	}
	below, err := w.Inputs.Layers.View(ctx, job.On)
	if err != nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		ours := made[name]
		there, err := below.Lstat(name)
		if err != nil {
			continue // nothing is there, or something on the way is no directory, which has been said
		}
		what := ""
		switch {
		case there.Mode&syscall.S_IFMT == syscall.S_IFLNK:
			what = "is a link to " + there.Link + ", and becomes a directory"
		case there.Mode&syscall.S_IFMT != syscall.S_IFDIR:
			what = "is a file, and becomes a directory"
		case there.Mode&0o7777 != ours.Mode&0o7777 || there.UID != ours.UID || there.GID != ours.GID:
			what = fmt.Sprintf("has mode %04o and owner %d:%d, and gets %04o and %d:%d",
				there.Mode&0o7777, there.UID, there.GID, ours.Mode&0o7777, ours.UID, ours.GID)
		default:
			continue
		}
		w.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf("--link to %s: /%s of the image below %s", op.Dest, name, what)})
	}
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
