package local

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source"
)

// copyGit copies what a repository holds: the commit that the job names.
func (w *Worker) copyGit(ctx context.Context, job executor.Job, op *planner.Copy, n int, c *copier) error {
	g := source.Git{GitRef: *op.Sources[n].Git}
	at := job.Inputs[n].Commit
	if at == nil {
		return fmt.Errorf("%s: the job names no commit", web.Redact(g.Remote))
	}
	if w.Inputs.Offline {
		return fmt.Errorf("%s: commit %s: %w", web.Redact(g.Remote), at.ID, web.ErrOffline)
	}
	tree, err := g.Checkout(ctx, w.Layout, *at)
	if err != nil {
		return err
	}
	c.open.Push(tree.Close)
	found, err := source.Select(ctx, tree, source.Query{Path: "/", Exclude: op.Exclude})
	if err != nil {
		return err
	}
	return c.copy(ctx, &found[0], op.Dest)
}

// copyURL copies what a URL holds. If it is not what the job names, or has not the checksum that was asked for, it fails.
func (w *Worker) copyURL(ctx context.Context, job executor.Job, op *planner.Copy, n int, c *copier) error {
	address := op.Sources[n].URL
	checksum, err := source.Checksum(op)
	if err != nil {
		return err
	}
	var known source.Download
	if d := job.Inputs[n].Download; d != nil {
		known = *d
	} else if checksum == "" {
		return fmt.Errorf("%s: the job names no content", web.Redact(address))
	}
	d, err := w.Inputs.Downloads.Get(ctx, address, known, checksum)
	if err != nil {
		return err
	}
	sel := fileSelection(w.Inputs.Downloads.File(address, d))
	if op.Add != nil && op.Add.Unpack != nil && *op.Add.Unpack {
		if done, err := w.unpack(ctx, sel, op.Dest, c); err != nil || done {
			return err
		}
	}
	return c.copy(ctx, sel, op.Dest)
}

// fileSelection selects the one file of a tree.
func fileSelection(t *source.File) *source.Selection {
	e := t.Entry()
	return &source.Selection{Tree: t, Named: "/" + e.Name, Root: e.Name, Base: e.Name, Entry: e}
}

// unpack puts what is in an archive into the changes, if the selection is one; it is told by its content.
func (w *Worker) unpack(ctx context.Context, sel *source.Selection, dest string, c *copier) (bool, error) {
	if !isRegular(&sel.Entry) {
		return false, nil
	}
	if ok, err := source.IsArchive(ctx, sel.Tree, sel.Root); err != nil || !ok {
		return false, err
	}
	a, err := source.OpenArchive(ctx, w.Layout, sel.Tree, sel.Root)
	if err != nil {
		return false, err
	}
	c.open.Push(a.Close)
	root, err := c.resolve(dest)
	if err != nil {
		return false, err
	}
	if err := c.mkdirAll(root, syscall.S_IFDIR|0o755, sel.Entry.ModTime); err != nil {
		return false, err
	}
	return true, a.Unpack(ctx, source.Unpacking{Changes: c.changes, Root: root, Owner: c.owner})
}

// heredoc makes a file that the build file holds ready to be copied.
func heredoc(f *planner.File, epoch *time.Time) (*source.Selection, error) {
	if f.Name == "" || f.Name == "." || f.Name == ".." || strings.ContainsAny(f.Name, "/\x00") {
		return nil, fmt.Errorf("heredoc %q: %w", f.Name, &fs.PathError{Op: "mkfile", Path: "/" + f.Name, Err: fs.ErrNotExist})
	}
	mtime := time.Now()
	if epoch != nil {
		mtime = *epoch
	}
	e := snapshot.Entry{Name: f.Name, Mode: 0o644, Size: int64(len(f.Content)), ModTime: mtime}
	return fileSelection(source.NewFile(e, func() (filetree.File, error) {
		return struct {
			*strings.Reader
			io.Closer
		}{strings.NewReader(f.Content), io.NopCloser(nil)}, nil
	})), nil
}
