package executor

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/source"
)

// describeGit adds the commit that a repository's ref names now.
func (w *Local) describeGit(ctx context.Context, ref *planner.GitRef, h *cache.Hash) error {
	g := source.Git{GitRef: *ref}
	at, err := g.Resolve(ctx)
	if err != nil {
		return err
	}
	w.pins.pinGit(*ref, at)
	h.Field("commit "+web.WithoutLogin(ref.Remote), at.ID)
	return nil
}

// copyGit copies what a repository holds: the commit that described the step, if this worker did that.
func (w *Local) copyGit(ctx context.Context, op *planner.Copy, ref *planner.GitRef, c *copier, open *closers) (err error) {
	g := source.Git{GitRef: *ref}
	at, ok := w.pins.git(*ref)
	if !ok {
		if at, err = g.Resolve(ctx); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "forge-git-")
	if err != nil {
		return err
	}
	open.add(func() error { return os.RemoveAll(dir) })
	tree, err := g.Checkout(ctx, at, dir)
	if err != nil {
		return err
	}
	open.add(tree.Close)
	found, err := selections(ctx, tree, &planner.Copy{Exclude: op.Exclude}, "/")
	if err != nil {
		return err
	}
	return c.copy(ctx, &found[0], op.Dest)
}

// describeURL adds the digest of what a URL holds now. With --checksum nothing is asked: the key holds it already.
func (w *Local) describeURL(ctx context.Context, op *planner.Copy, address string, h *cache.Hash) error {
	checksum, err := checksumOf(op)
	if err != nil || checksum != "" {
		return err
	}
	d, err := w.downloads().Revalidate(ctx, address)
	if err != nil {
		return err
	}
	w.pins.pinURL(address, d)
	h.Field("content "+shownURL(address), d.Digest.String())
	return nil
}

func (w *Local) downloads() source.Downloads {
	return source.Downloads{Layout: w.Layout, Known: w.Downloads}
}

// checksumOf is what --checksum asks of the content of a URL.
func checksumOf(op *planner.Copy) (digest.Digest, error) {
	if op.Add == nil || op.Add.Checksum == "" {
		return "", nil
	}
	checksum := digest.Digest(op.Add.Checksum)
	if err := checksum.Validate(); err != nil {
		return "", fmt.Errorf("--checksum=%s: %w", checksum, err)
	}
	return checksum, nil
}

// copyURL copies what a URL holds. If it is not what described the step, or has not the checksum that was asked for, it
// fails.
func (w *Local) copyURL(ctx context.Context, op *planner.Copy, address string, c *copier, open *closers) error {
	checksum, err := checksumOf(op)
	if err != nil {
		return err
	}
	var known source.Download
	if checksum == "" {
		known, _ = w.pins.url(address)
	}
	d, err := w.downloads().Get(ctx, address, known, checksum)
	if err != nil {
		return err
	}
	sel := fileSelection(w.downloads().File(address, d))
	if op.Add != nil && op.Add.Unpack != nil && *op.Add.Unpack {
		if done, err := w.unpack(ctx, sel, op.Dest, c, open); err != nil || done {
			return err
		}
	}
	return c.copy(ctx, sel, op.Dest)
}

// fileSelection selects the one file of a tree.
func fileSelection(t *source.File) *selection {
	e := t.Entry()
	return &selection{tree: t, named: "/" + e.Name, root: e.Name, base: e.Name, entry: e}
}

// unpack puts what is in an archive into the changes, if the selection is one; it is told by its content.
func (w *Local) unpack(ctx context.Context, sel *selection, dest string, c *copier, open *closers) (bool, error) {
	if !isRegular(&sel.entry) {
		return false, nil
	}
	if ok, err := source.IsArchive(sel.tree, sel.root); err != nil || !ok {
		return false, err
	}
	a, err := source.OpenArchive(ctx, w.Layout, sel.tree, sel.root)
	if err != nil {
		return false, err
	}
	open.add(a.Close)
	root, err := c.resolve(dest)
	if err != nil {
		return false, err
	}
	if err := c.mkdirAll(root, syscall.S_IFDIR|0o755, sel.entry.ModTime); err != nil {
		return false, err
	}
	c.groups++
	to := source.Unpacking{Changes: c.changes, Below: c.below, Root: root, Owner: c.owner, Group: fmt.Sprint("archive ", c.groups)}
	return true, a.Unpack(ctx, to)
}

// heredoc makes a file that the build file holds ready to be copied.
func (w *Local) heredoc(f *planner.File) (*selection, error) {
	if f.Name == "" || f.Name == "." || f.Name == ".." || strings.ContainsAny(f.Name, "/\x00") {
		return nil, fmt.Errorf("heredoc %q: %w", f.Name, &fs.PathError{Op: "mkfile", Path: "/" + f.Name, Err: fs.ErrNotExist})
	}
	mtime := time.Now()
	if w.Epoch != nil {
		mtime = *w.Epoch
	}
	e := snapshot.Entry{Name: f.Name, Mode: 0o644, Size: int64(len(f.Content)), ModTime: mtime}
	return fileSelection(source.NewFile(e, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(f.Content)), nil })), nil
}
