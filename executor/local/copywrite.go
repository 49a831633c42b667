package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"strconv"
	"syscall"
	"time"

	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source"
)

// A copier puts what was selected into changes. What it merges, replaces and refuses is BuildKit's rule, told in
// docs/copy.md. One copier serves one step.
type copier struct {
	changes *snapshot.Changes
	below   snapshot.Tree             // what the changes are to; nil is nothing
	owner   *source.Owner             // nil keeps that of the source; what is made on the way is root's
	mode    *planner.ModeChange       // nil keeps
	groups  int                       // of hard links so far: one for each copied source
	made    map[string]snapshot.Entry // directories on the way that were missing, by path; nil notes none
	open    closers.Stack             // what the changes are read from
}

// copy copies one selection to dest, which is as the build file has it but absolute: a trailing slash makes it a
// directory.
func (c *copier) copy(ctx context.Context, sel *source.Selection, dest string) error {
	c.groups++
	target, err := c.target(sel, dest)
	if err != nil {
		return err
	}
	if err := sel.Load(ctx); err != nil {
		return err
	}
	files := &copied{sel: sel, target: target}
	return sel.Walk(ctx, func(it *source.Item) error {
		return c.item(files, it, filetree.Join(target, it.Rel()))
	})
}

// A copied is a selection that is copied to a path of the changes. It opens a file where it came from by where it goes.
type copied struct {
	sel    *source.Selection
	target string
}

// OpenPut implements [snapshot.Paths].
func (c *copied) OpenPut(name string) (io.ReadCloser, error) {
	rel := "."
	switch {
	case c.target == ".":
		rel = name
	case name != c.target:
		rel = name[len(c.target)+1:]
	}
	return c.sel.Tree.Open(filetree.Join(c.sel.Root, rel))
}

// target makes the directories that lead to where a selection goes, and returns where that is.
func (c *copier) target(sel *source.Selection, dest string) (string, error) {
	parent := dest
	if dir, base := path.Split(dest); base != "" && base != "." {
		parent = dir
	}
	parent, err := c.resolve(parent)
	if err != nil {
		return "", err
	}
	if err := c.mkdirAll(parent, c.mode.Parents(), sel.Entry.ModTime); err != nil {
		return "", err
	}
	target, err := c.resolve(path.Clean(dest))
	if err != nil {
		return "", err
	}
	if sel.IsDir() {
		return target, c.mkdirAll(target, c.mode.Parents(), sel.Entry.ModTime)
	}
	if e, ok, err := c.lookup(target); err != nil {
		return "", err
	} else if ok && isDir(&e) {
		target = path.Join(target, sel.Base)
	}
	return target, c.mkdirAll(path.Dir(target), c.mode.Parents(), sel.Entry.ModTime)
}

// resolve follows all links of a destination inside the root. What is not there yet is where it would be.
func (c *copier) resolve(name string) (string, error) {
	p, err := filetree.Resolve(c.changes.Lookup, relative(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return p, nil
}

// lookup finds what is at p, if anything is.
func (c *copier) lookup(p string) (e snapshot.Entry, ok bool, err error) {
	e, err = c.changes.Lookup(p)
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	return e, err == nil, err
}

// mkdirAll makes the missing directories of a resolved path. They get the time of what they are made for, not of the
// clock: the same files make the same layer.
func (c *copier) mkdirAll(p string, mode uint32, mtime time.Time) error {
	e, ok, err := c.lookup(p)
	if err != nil {
		return err
	}
	if ok {
		if !isDir(&e) {
			return &fs.PathError{Op: "mkdir", Path: "/" + p, Err: syscall.ENOTDIR}
		}
		return nil
	}
	if p != "." {
		if err := c.mkdirAll(path.Dir(p), mode, mtime); err != nil {
			return err
		}
	}
	dir := snapshot.Entry{Name: path.Base(p), Mode: mode, ModTime: mtime, Nlink: 2}
	if c.owner != nil {
		dir.UID, dir.GID = c.owner.UID, c.owner.GID
	}
	if c.made != nil {
		c.made[p] = dir
	}
	return c.changes.Put(p, dir, snapshot.Content{})
}

// item puts one file to where it goes.
func (c *copier) item(from *copied, it *source.Item, target string) error {
	there, ok, err := c.lookup(target)
	if err != nil {
		return err
	}
	if !isDir(it.Entry) {
		if ok && isDir(&there) {
			return fmt.Errorf("cannot replace to directory /%s with file", target)
		}
		return c.put(from, it, target, c.withOwnerAndMode(it.Entry))
	}
	e := c.withOwnerAndMode(it.Entry)
	switch {
	case !ok:
	case !isDir(&there):
		return fmt.Errorf("cannot copy to non-directory: /%s", target)
	case it.Depth == 0:
		return nil // the directory's own mode and owner are not for what it is copied to
	case it.OnPath:
		e = there
		e.Mode = it.Entry.Mode
	default:
		e.Xattrs = mergeXattrs(there.Xattrs, e.Xattrs)
	}
	return c.changes.Put(target, e, snapshot.Content{})
}

// withOwnerAndMode is the entry of a copy.
func (c *copier) withOwnerAndMode(e *snapshot.Entry) snapshot.Entry {
	made := *e
	made.Mode = c.mode.Apply(e.Mode)
	if c.owner != nil {
		made.UID, made.GID = c.owner.UID, c.owner.GID
	}
	return made
}

// put puts something that is not a directory, with the content of its source.
func (c *copier) put(from *copied, it *source.Item, target string, e snapshot.Entry) error {
	var content snapshot.Content
	if e.Mode&syscall.S_IFMT == syscall.S_IFREG {
		content.Paths = from
		if e.Nlink > 1 {
			content.Group = strconv.Itoa(c.groups)
		}
	}
	e.Name = path.Base(target)
	return c.changes.Put(target, e, content)
}

func isDir(e *snapshot.Entry) bool { return e.Mode&syscall.S_IFMT == syscall.S_IFDIR }

// mergeXattrs is what a directory has after another was copied onto it.
func mergeXattrs(old, over map[string]string) map[string]string {
	if len(old) == 0 {
		return over
	}
	merged := maps.Clone(old)
	maps.Copy(merged, over)
	return merged
}
