package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A cache mount is a directory CacheMountDir/<sha256 of its id>, and <the same>.1, .2 … for steps that want one to
// themselves while others have the first. In it are
//
//	lock   flocked by whoever uses the directory: shared, or exclusively; its mtime is the last use
//	id     the id, for people
//	data   what is mounted
//
// Whoever removes one takes the lock exclusively, without waiting, and renames the directory away first.
type cacheMount struct {
	dir  string
	data *os.File
}

// errPruned means that a directory was removed before it could be locked.
var errPruned = errors.New("it was removed at that moment")

// maxPrivate is how many directories a private cache may have, one a step that uses it at the same time.
const maxPrivate = 1000

// lockCaches opens the caches of all mounts, in the order of their ids, so that two steps never wait for each other.
func (c *command) lockCaches(ctx context.Context) (map[string]*cacheMount, error) {
	wanted := make(map[string]planner.Mount)
	for _, m := range c.op.Mounts {
		if m.Type != planner.Cache {
			continue
		}
		first, ok := wanted[m.ID]
		if !ok {
			first = m
		}
		if m.Sharing == "locked" || first.Sharing == "shared" {
			first.Sharing = m.Sharing // the strictest holds for all that the step mounts of it
		}
		wanted[m.ID] = first
	}
	caches := make(map[string]*cacheMount)
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		cache, err := c.openCache(ctx, wanted[id])
		if err != nil {
			return nil, fmt.Errorf("cache %s: %w", id, err)
		}
		caches[id] = cache
	}
	return caches, nil
}

// openCache locks and opens a cache's directory, making it if it is new.
func (c *command) openCache(ctx context.Context, m planner.Mount) (*cacheMount, error) {
	if c.local.Grants.CacheMountDir == "" {
		return nil, errors.New("there is no place for cache mounts")
	}
	sum := sha256.Sum256([]byte(m.ID))
	base := filepath.Join(c.local.Grants.CacheMountDir, hex.EncodeToString(sum[:]))
	if m.Sharing != "private" {
		return c.lockCache(ctx, base, m, true)
	}
	for i := range maxPrivate {
		dir := base
		if i > 0 {
			dir = fmt.Sprintf("%s.%d", base, i)
		}
		cache, err := c.lockCache(ctx, dir, m, false)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return cache, err
		}
	}
	return nil, fmt.Errorf("%d steps use it at once", maxPrivate)
}

// lockCache takes the lock of a directory, waiting for others if wait.
func (c *command) lockCache(ctx context.Context, dir string, m planner.Mount, wait bool) (*cacheMount, error) {
	how := syscall.LOCK_EX
	if m.Sharing == "shared" {
		how = syscall.LOCK_SH
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		cache, err := c.tryCache(ctx, dir, m, how)
		switch {
		case err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, errPruned):
			return cache, err
		case errors.Is(err, syscall.EWOULDBLOCK) && !wait:
			return nil, err
		}
		select { // flock(2) itself cannot be cancelled
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryCache fails with EWOULDBLOCK if another has the lock, and with errPruned if the directory was removed meanwhile.
func (c *command) tryCache(ctx context.Context, dir string, m planner.Mount, how int) (_ *cacheMount, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	_, missing := os.Lstat(data)
	first := how
	if missing != nil {
		first = syscall.LOCK_EX // one alone may make it
	}
	lock, err := flockFile(filepath.Join(dir, "lock"), first)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if _, missing = os.Lstat(data); missing != nil {
		if err := c.newCache(ctx, dir, m); err != nil {
			return nil, err
		}
	}
	if first != how {
		// This gives the lock up for a moment, in which the directory may go: so it is looked at again.
		if err := flock(lock, how); err != nil {
			return nil, err
		}
	}
	if err := samePlace(lock); err != nil {
		return nil, err
	}
	now := time.Now()
	f, err := os.Open(data)
	if err = errors.Join(err, os.Chtimes(lock.Name(), now, now)); err != nil {
		return nil, err
	}
	c.closing(lock.Close)
	c.closing(f.Close)
	return &cacheMount{dir: dir, data: f}, nil
}

// flockFile opens and locks a file, or fails with EWOULDBLOCK.
func flockFile(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errPruned
	}
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := samePlace(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != syscall.EINTR {
			return err
		}
	}
}

// samePlace makes sure that an open file is the one that its name stands for; if not, it is errPruned.
func samePlace(f *os.File) error {
	ours, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(f.Name())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(ours, there) {
		return errPruned
	}
	return err
}

// newCache makes what a cache begins with, aside first, so that what is at its place is whole.
func (c *command) newCache(ctx context.Context, dir string, m planner.Mount) (err error) {
	aside := filepath.Join(dir, "new")
	if err := os.RemoveAll(aside); err != nil { // of one that died
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "id"), []byte(m.ID), 0o600); err != nil {
		return err
	}
	if err := os.Mkdir(aside, 0o755); err != nil {
		return err
	}
	mode := uint32(0o755)
	if m.From != nil {
		if mode, err = c.seedCache(ctx, aside, m); err != nil {
			return err
		}
	}
	if m.Mode != nil {
		mode = *m.Mode
	}
	if err := errors.Join(own(os.Chown(aside, int(m.UID), int(m.GID))), os.Chmod(aside, fileMode(mode))); err != nil {
		return err
	}
	return os.Rename(aside, filepath.Join(dir, "data"))
}

// seedCache copies the directory that m names into dir and returns its mode.
func (c *command) seedCache(ctx context.Context, dir string, m planner.Mount) (uint32, error) {
	tree, err := c.local.tree(ctx, c.job, *m.From)
	if err != nil {
		return 0, err
	}
	source, err := filetree.Resolve(tree.Lstat, relative(m.Source), true)
	if err != nil {
		return 0, fmt.Errorf("source %s: %w", m.Source, err)
	}
	top, err := tree.Lstat(source)
	if err != nil {
		return 0, fmt.Errorf("source %s: %w", m.Source, err)
	}
	if !isDir(&top) {
		return 0, fmt.Errorf("source %s is not a directory", m.Source)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	err = filetree.Walk(ctx, tree, source, func(from string, e *snapshot.Entry, _ *filetree.Sum) error {
		rel := relTo(source, from)
		if rel == "." {
			return nil
		}
		return seedEntry(root, tree, from, rel, *e)
	})
	return top.Mode & 0o7777, err
}

// seedEntry copies one file, directory or link.
func seedEntry(root *os.Root, tree snapshot.Tree, from, to string, e snapshot.Entry) error {
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		if err := root.Mkdir(to, 0o700); err != nil {
			return err
		}
	case syscall.S_IFREG:
		if err := seedFile(root, tree, from, to); err != nil {
			return err
		}
	case syscall.S_IFLNK:
		return errors.Join(root.Symlink(e.Link, to), own(root.Lchown(to, int(e.UID), int(e.GID))))
	default:
		return nil // a cache is no place for devices
	}
	// Owner first: to change it takes setuid and setgid away (chown(2)).
	return errors.Join(own(root.Lchown(to, int(e.UID), int(e.GID))), root.Chmod(to, fileMode(e.Mode)))
}

func seedFile(root *os.Root, tree snapshot.Tree, from, to string) error {
	r, err := tree.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// own is the error of a chown, but for that of an id which this user namespace does not have: a rootless build that has
// but one id has one owner.
func own(err error) error {
	if errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}

// fileMode turns permission bits of stat(2) into Go's.
func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]os.FileMode{
		syscall.S_ISUID: os.ModeSetuid, syscall.S_ISGID: os.ModeSetgid, syscall.S_ISVTX: os.ModeSticky,
	} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

// mountCache mounts a cache that lockCaches has opened.
func (c *command) mountCache(ctx context.Context, m planner.Mount, cache *cacheMount) error {
	points := func(rel string, dir bool) error {
		root, err := openRoot(cache.data)
		if err != nil {
			return err
		}
		defer root.Close()
		if _, err := root.Lstat(rel); err == nil {
			return nil
		}
		if dir {
			return root.MkdirAll(rel, 0o755)
		}
		if err := root.MkdirAll(path.Dir(rel), 0o755); err != nil {
			return err
		}
		f, err := root.OpenFile(rel, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	}
	return c.mount(m.Target, true, runtime.Mount{Source: cache.data, ReadOnly: m.ReadOnly}, points)
}
