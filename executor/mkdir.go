package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// doMkdir makes a directory and its parents as WORKDIR does, without mounting anything. What exists stays as it is, so
// that the layer may be empty.
func (w *Local) doMkdir(ctx context.Context, job Job, op *planner.Mkdir) (_ image.Layer, err error) {
	if err := w.fetch(ctx, job.On); err != nil {
		return image.Layer{}, err
	}
	view, err := w.Snapshots.View(ctx, job.On)
	if err != nil {
		return image.Layer{}, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	owner, err := parseChown(op.User).resolve(view) // unlike RUN, an unknown user is root
	if err != nil {
		return image.Layer{}, err
	}
	changes := snapshot.NewChanges(view)
	resolved, err := filetree.Resolve(changes.Lookup, strings.TrimPrefix(op.Path, "/"), true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return image.Layer{}, fmt.Errorf("%s: %w", op.Path, err)
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
			Name: path.Base(dir), Mode: syscall.S_IFDIR | 0o755, UID: owner.UID, GID: owner.GID, ModTime: now, Nlink: 2,
		}
		if err := changes.Put(dir, made, snapshot.Content{}); err != nil {
			return image.Layer{}, fmt.Errorf("%s: %w", op.Path, err)
		}
	}
	return w.Snapshots.Commit(ctx, changes, w.Epoch)
}
