package container

import (
	"cmp"
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
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A Cache mounts a directory that outlives the container. One directory is known by its ID and by what it began with:
// owner, mode and seed, as in BuildKit.
//
// It is CacheDir/<sha256 of that>, and <the same>.1, .2 … for containers that want one to themselves while others have
// the first. In it are
//
//	lock   flocked by whoever uses the directory: shared, or exclusively; its mtime is the last use
//	id     the ID, for people
//	data   what is mounted
//
// Whoever removes one takes the lock exclusively, without waiting, and renames the directory away first.
type Cache struct {
	ID       string
	Target   string // absolute
	Source   string // of the directory, what is mounted; "" or "." is all of it
	Sharing  string // "shared" (also ""), "private" or "locked"
	ReadOnly bool
	Access   Access // of the directory; the default mode is 0755, or the seed's
	Seed     *Seed
	Platform string // of the container, for a [CacheKeeper]; directories here are all platforms'
}

// A CacheKeeper keeps caches in other places than this machine. Safe for concurrent use.
type CacheKeeper interface {
	// Fill writes what is kept of a cache into an open directory, which is new and empty. It reports false, and leaves the directory
	// empty or not, where nothing is kept or can be had.
	Fill(ctx context.Context, m *Cache, dir *os.File) bool

	// Used is told that a command has succeeded that had a cache, whose directory (see [Cache]) is dir.
	Used(ctx context.Context, m *Cache, dir string)
}

// Identity is what a cache is known by beside its ID: owner, mode and what it begins with; "" if none was said.
func (m *Cache) Identity() string {
	if m.Access == (Access{}) && m.Seed == nil {
		return ""
	}
	seed := ""
	if m.Seed != nil {
		seed = m.Seed.Digest
	}
	return fmt.Sprintf("%d:%d %o %s", m.Access.UID, m.Access.GID, m.Access.mode(0o755), seed)
}

// A Seed is a directory whose files a new cache begins with.
type Seed struct {
	Files  filetree.Tree // not closed
	Path   string        // in Files
	Digest string        // of all that is at Path
}

func (m *Cache) kind() string   { return "cache" }
func (m *Cache) target() string { return path.Clean(m.Target) }

func (m *Cache) mount(_ context.Context, c *Container) error {
	from, err := c.openBelow(c.caches[m.name()], cmp.Or(m.Source, "."))
	if err != nil {
		return fmt.Errorf("cache %s: source: %w; a RUN that mounts all of the cache can make it", m.ID, err)
	}
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return fmt.Errorf("cache %s: source %s: is neither a file nor a directory", m.ID, m.Source)
	}
	if !info.IsDir() && !m.ReadOnly && c.spec.Isolation == runtime.ByChroot { // it would be a copy, and what is written to it lost
		return fmt.Errorf("cache %s: source %s: is a file, which RUN can write to only with --isolation namespaces; mount its directory, or readonly", m.ID, m.Source)
	}
	return c.attach(m.target(), runtime.Mount{Source: from, ReadOnly: m.ReadOnly}, makeIn(from))
}

// name is the name of the cache's directory.
func (m *Cache) name() string {
	h := sha256.New()
	io.WriteString(h, m.ID)
	if id := m.Identity(); id != "" {
		io.WriteString(h, "\x00"+id) // no ID that the parser lets through has a zero byte
	}
	return hex.EncodeToString(h.Sum(nil))
}

// maxPrivate is how many directories a private cache may have, one a container that uses it at the same time.
const maxPrivate = 1000

// lockCaches opens the caches of all mounts, in the order of their names, so that two containers never wait for each
// other.
func (c *Container) lockCaches(ctx context.Context) error {
	wanted := make(map[string]Cache)
	for _, m := range c.options.Mounts {
		m, ok := m.(*Cache)
		if !ok {
			continue
		}
		first, ok := wanted[m.name()]
		if !ok {
			first = *m
		}
		if m.Sharing == "locked" || first.Sharing == "shared" {
			first.Sharing = m.Sharing // the strictest holds for all that the container mounts of it
		}
		wanted[m.name()] = first
	}
	c.caches = make(map[string]*os.File)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		m := wanted[name]
		if m.Sharing != "private" && c.spec.Isolation == runtime.ByChroot { // it is in one root directory at a time
			m.Sharing = "locked"
		}
		cache, err := c.openCache(ctx, &m)
		if err != nil {
			return fmt.Errorf("cache %s: %w", m.ID, err)
		}
		c.caches[name] = cache
	}
	return nil
}

// openCache locks and opens a cache's directory, making it if it is new.
func (c *Container) openCache(ctx context.Context, m *Cache) (*os.File, error) {
	if c.factory.CacheDir == "" {
		return nil, errors.New("there is no place for cache mounts")
	}
	base := filepath.Join(c.factory.CacheDir, m.name())
	if m.Sharing != "private" {
		return c.lockCache(ctx, base, m)
	}
	for i := range maxPrivate {
		dir := base
		if i > 0 {
			dir = fmt.Sprintf("%s.%d", base, i)
		}
		cache, err := c.tryCache(ctx, dir, m)
		if !errors.Is(err, flock.ErrHeld) {
			return cache, err
		}
	}
	return nil, fmt.Errorf("%d containers use it at once", maxPrivate)
}

// lockCache waits for the lock of a directory.
func (c *Container) lockCache(ctx context.Context, dir string, m *Cache) (*os.File, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		cache, err := c.tryCache(ctx, dir, m)
		if !errors.Is(err, flock.ErrHeld) {
			return cache, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryCache fails with flock.ErrHeld if another has the lock.
func (c *Container) tryCache(ctx context.Context, dir string, m *Cache) (*os.File, error) {
	mode := flock.Exclusive
	if m.Sharing == "shared" || m.Sharing == "" {
		mode = flock.Shared
	}
	data := filepath.Join(dir, "data")
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		first := mode
		if _, err := os.Lstat(data); err != nil {
			first = flock.Exclusive // one alone may make it
		}
		lock, err := flock.TryLock(filepath.Join(dir, "lock"), first)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the directory was removed at that moment
		}
		if err != nil {
			return nil, err
		}
		cache, err := c.openCacheData(ctx, dir, m)
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		if first != mode {
			// This gives the lock up for a moment, in which the directory may go.
			if err = flock.Try(lock, mode); err != nil || !flock.Same(lock) {
				if err = errors.Join(err, cache.Close(), lock.Close()); err != nil {
					return nil, err
				}
				continue
			}
		}
		c.open.Push(lock.Close)
		c.open.Push(cache.Close)
		return cache, nil
	}
}

// openCacheData opens what is mounted, in a directory whose lock is held.
func (c *Container) openCacheData(ctx context.Context, dir string, m *Cache) (*os.File, error) {
	data := filepath.Join(dir, "data")
	if _, err := os.Lstat(data); err != nil {
		if err := c.newCache(ctx, dir, m); err != nil {
			return nil, err
		}
	}
	now := time.Now()
	if err := os.Chtimes(filepath.Join(dir, "lock"), now, now); err != nil {
		return nil, err
	}
	return os.Open(data)
}

// newCache makes what a cache begins with, aside first, so that what is at its place is whole.
func (c *Container) newCache(ctx context.Context, dir string, m *Cache) (err error) {
	aside := filepath.Join(dir, "new")
	if err := os.WriteFile(filepath.Join(dir, "id"), []byte(m.ID), 0o600); err != nil {
		return err
	}
	filled, err := c.fillCache(ctx, aside, m)
	if err != nil {
		return err
	}
	mode := os.FileMode(0o755)
	if m.Seed != nil && !filled {
		if mode, err = m.Seed.copyTo(ctx, aside); err != nil {
			return fmt.Errorf("source %s: %w", m.Seed.Path, err)
		}
	}
	err = ignoreUnmappedID(os.Chown(aside, int(m.Access.UID), int(m.Access.GID)))
	if err = errors.Join(err, os.Chmod(aside, m.Access.mode(mode))); err != nil {
		return err
	}
	return durable.Move(aside, filepath.Join(dir, "data"))
}

// fillCache makes an empty directory, or one with what is kept of the cache elsewhere.
func (c *Container) fillCache(ctx context.Context, dir string, m *Cache) (filled bool, err error) {
	empty := func() error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)) }
	if err := empty(); err != nil || c.factory.Caches == nil { // what was there is of one that died
		return false, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	filled = c.factory.Caches.Fill(ctx, m, f)
	if err = f.Close(); err == nil && !filled {
		err = empty()
	}
	return filled, err
}

// UsedCaches tells the factory's keeper that the container's command has succeeded. One that had a private cache to itself while others
// had the first is not kept: there is one of each cache elsewhere.
func (c *Container) UsedCaches(ctx context.Context) {
	if c.factory.Caches == nil {
		return
	}
	for _, m := range c.options.Mounts {
		m, ok := m.(*Cache)
		if !ok {
			continue
		}
		if dir := filepath.Dir(c.caches[m.name()].Name()); filepath.Base(dir) == m.name() {
			c.factory.Caches.Used(ctx, m, dir)
		}
	}
}

// copyTo copies what the seed holds into dir and returns its mode.
func (s *Seed) copyTo(ctx context.Context, dir string) (os.FileMode, error) {
	source, err := filetree.Resolve(s.Files.Lstat, s.Path)
	if err != nil {
		return 0, err
	}
	top, err := s.Files.Lstat(source)
	if err != nil {
		return 0, err
	}
	if top.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return 0, errors.New("is not a directory")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	err = filetree.Walk(ctx, s.Files, source, func(from string, e *filetree.Entry, _ *filetree.Sum) error {
		if from == source {
			return nil
		}
		to := from
		if source != "." {
			to = strings.TrimPrefix(from, source+"/")
		}
		return seedEntry(root, s.Files, from, to, e)
	})
	return fileMode(top.Mode & 0o7777), err
}

// seedEntry copies one file, directory or link.
func seedEntry(root *os.Root, files filetree.Tree, from, to string, e *filetree.Entry) error {
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		if err := root.Mkdir(to, 0o700); err != nil {
			return err
		}
	case syscall.S_IFREG:
		if err := seedFile(root, files, from, to); err != nil {
			return err
		}
	case syscall.S_IFLNK:
		return errors.Join(root.Symlink(e.Link, to), ignoreUnmappedID(root.Lchown(to, int(e.UID), int(e.GID))))
	default:
		return nil // a cache is no place for devices
	}
	// Owner first: to change it takes setuid and setgid away (chown(2)).
	return errors.Join(ignoreUnmappedID(root.Lchown(to, int(e.UID), int(e.GID))), root.Chmod(to, fileMode(e.Mode)))
}

func seedFile(root *os.Root, tree filetree.Tree, from, to string) error {
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
