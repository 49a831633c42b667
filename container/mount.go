package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// A mountTarget is where something is mounted, and how mount points are made in it.
type mountTarget struct {
	path string
	make makeTarget // nil if there is no need to, as the runtime makes those in /dev
}

// A makeTarget makes a mount point, a directory or a file, at a path in what is mounted, unless there is one.
type makeTarget func(rel string, kind os.FileMode) error

// within reports whether name is dir or below it.
func within(name, dir string) bool {
	return name == dir || dir == "/" || strings.HasPrefix(name, dir) && name[len(dir)] == '/'
}

// outer is the mount that a path lies in.
func (c *Container) outer(name string) (mountTarget, bool) {
	for _, t := range slices.Backward(c.targets) {
		if within(name, t.path) {
			return t, true
		}
	}
	return mountTarget{}, false
}

// mountpoint makes sure that m can be mounted at target and returns where that is, links of the root resolved. Nothing of it
// stays in the layer.
func (c *Container) mountpoint(target string, m *runtime.Mount) (string, error) {
	kind := os.ModeDir
	if m.Source != nil {
		info, err := m.Source.Stat()
		if err != nil {
			return "", err
		}
		kind = info.Mode()
	}
	at := target
	for range 2 { // as it is written, then with its links resolved
		if t, ok := c.outer(at); ok {
			rel := strings.TrimPrefix(strings.TrimPrefix(at, t.path), "/")
			if rel == "" || t.make == nil {
				return at, nil
			}
			return at, t.make(rel, kind)
		}
		resolved, err := c.options.Root.Mountpoint(at, kind)
		if err != nil || resolved == at {
			return resolved, err
		}
		at = resolved
	}
	return at, nil
}

// attach adds a mount at target. m.Target is filled in. The function makes mount points in what is mounted.
func (c *Container) attach(target string, m runtime.Mount, inside makeTarget) error {
	at, err := c.mountpoint(target, &m)
	if err != nil {
		return err
	}
	m.Target = at
	c.spec.Mounts = append(c.spec.Mounts, m)
	c.targets = append(c.targets, mountTarget{target, inside})
	if at != target { // through links
		c.targets = append(c.targets, mountTarget{at, inside})
	}
	return nil
}

// A Bind mounts a directory or file of this machine.
type Bind struct {
	Source      string   // path
	File        *os.File // instead of Source, if it is not nil; not closed
	Target      string   // absolute
	ReadOnly    bool
	Create      bool   // make a directory if there is no source, as docker's -v does
	Propagation string // docker's word; "" is rprivate
	Attributes  runtime.Attributes
}

func (m *Bind) kind() string {
	if m.File != nil {
		return "volume"
	}
	return "bind"
}

func (m *Bind) target() string { return path.Clean(m.Target) }

func (m *Bind) mount(_ context.Context, c *Container) error {
	f, err := m.open(c)
	if err != nil {
		return err
	}
	flag, err := propagation(f, m.Propagation)
	if err != nil {
		return err
	}
	inside := makeIn(f)
	if m.ReadOnly {
		inside = findIn(f)
	}
	return c.attach(m.target(), runtime.Mount{Source: f, ReadOnly: m.ReadOnly, Propagation: flag, Attributes: m.Attributes}, inside)
}

// open opens what is to be bound.
func (m *Bind) open(c *Container) (*os.File, error) {
	if m.File != nil {
		return m.File, nil
	}
	f, err := c.openPath(m.Source)
	if errors.Is(err, os.ErrNotExist) && m.Create {
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return nil, err
		}
		return c.openPath(m.Source)
	}
	return f, err
}

// openPath opens a file only to be mounted: nothing happens to a device, a FIFO does not wait, and what cannot be read,
// such as a socket, can be opened, too.
func (c *Container) openPath(name string) (*os.File, error) {
	const pathOnly = 0x200000 // O_PATH of open(2)
	f, err := os.OpenFile(name, pathOnly, 0)
	if err != nil {
		return nil, err
	}
	c.open.Push(f.Close)
	return f, nil
}

// openRoot opens a directory, which may be a detached mount, for access that stays within it.
func openRoot(dir *os.File) (*os.Root, error) {
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
}

// makeIn makes directories and empty files in dir.
func makeIn(dir *os.File) makeTarget {
	return func(rel string, kind os.FileMode) error {
		root, err := openRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		if _, err := root.Stat(rel); err == nil {
			return nil
		}
		if kind.IsDir() {
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
}

// findIn fails where there is nothing in dir, in which nothing can be made.
func findIn(dir *os.File) makeTarget {
	return func(rel string, _ os.FileMode) error {
		root, err := openRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		if _, err := root.Stat(rel); err != nil {
			return fmt.Errorf("mount point in a read-only mount: %w", err)
		}
		return nil
	}
}

// mountDraft opens a draft on layers and mounts it. The function makes mount points in it, below a path.
func (c *Container) mountDraft(ctx context.Context, layers []image.Layer, o snapshot.DraftOptions) (top *os.File, below func(string) makeTarget, err error) {
	o.Plain = c.spec.Isolation == runtime.ByChroot
	draft, err := c.factory.Snapshots.Draft(ctx, layers, o)
	if err != nil {
		return nil, nil, err
	}
	c.open.Push(draft.Close)
	top, err = draft.Mount(ctx)
	return top, func(dir string) makeTarget {
		return func(rel string, kind os.FileMode) error {
			_, err := draft.Mountpoint(path.Join("/", dir, rel), kind)
			return err
		}
	}, err
}

// ignoreUnmappedID is the error of a chown, unless this user namespace does not have the id: a rootless build that has but
// one id has one owner.
func ignoreUnmappedID(err error) error {
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
