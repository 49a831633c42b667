package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// doMkdir makes a directory and its parents as WORKDIR does, without mounting anything. What exists stays as it is, so
// that the layer may be empty.
func (w *Worker) doMkdir(ctx context.Context, job executor.Job, op *planner.Mkdir) (_ image.Layer, err error) {
	end, err := w.begin(ctx)
	if err != nil {
		return image.Layer{}, err
	}
	defer end()
	view, err := w.Inputs.Layers.View(ctx, job.On)
	if err != nil {
		return image.Layer{}, err
	}
	user, err := owner(planner.ParseChown(op.User), view) // unlike RUN, an unknown user is root
	if err != nil {
		return image.Layer{}, err
	}
	changes := w.Inputs.Layers.Snapshots.NewChanges(view)
	defer func() { err = errors.Join(err, changes.Close()) }()
	resolved, err := filetree.Resolve(changes.Lookup, strings.TrimPrefix(op.Path, "/"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return image.Layer{}, err
	}
	now := time.Now()
	dir := "."
	for name := range strings.SplitSeq(resolved, "/") {
		dir = path.Join(dir, name)
		e, err := changes.Lookup(dir)
		switch {
		case err == nil && e.Mode&syscall.S_IFMT == syscall.S_IFDIR:
			continue
		case err == nil:
			return image.Layer{}, fmt.Errorf("%s: /%s is not a directory", op.Path, dir)
		case !errors.Is(err, fs.ErrNotExist):
			return image.Layer{}, fmt.Errorf("%s: %w", op.Path, err)
		}
		made := snapshot.Entry{
			Name: path.Base(dir), Mode: syscall.S_IFDIR | 0o755, UID: user.UID, GID: user.GID, ModTime: now, Nlink: 2,
		}
		if err := changes.Put(dir, made, snapshot.Content{}); err != nil {
			return image.Layer{}, fmt.Errorf("%s: %w", op.Path, err)
		}
	}
	return w.Inputs.Layers.Snapshots.Commit(ctx, changes, job.Epoch)
}
