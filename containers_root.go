package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// A containerRoot is the root directory of a container, open to be read and written: of one that runs what its processes see,
// mounts included, else what it has written on top of its image, and its volumes and binds beside that.
type containerRoot struct {
	record *containerRecord
	ref    string // the container as the user has named it
	dir    *os.File
	tree   *snapshot.Live

	stopped *Home         // opens what is mounted in a container that does not run; nil if it runs
	mounts  closers.Stack // of those
}

// A filePlace is where a file of a container is, or would be.
type filePlace struct {
	tree  *snapshot.Live
	at    string
	mount *container.MountPoint // of a container that does not run: what the file is in, if not in the root
}

// withRoot opens the root directory of a container for do. One that does not run is not started meanwhile.
func (h *Home) withRoot(ctx context.Context, ref string, do func(*containerRoot) error) (err error) {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	lock, err := h.containers().Lock(ctx, r.ID)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := lock.Close(); !errors.Is(closeErr, os.ErrClosed) {
			err = errors.Join(err, closeErr)
		}
	}()
	run, status, err := h.containers().Run(r.ID)
	if err != nil {
		return err
	}
	c := &containerRoot{record: r, ref: ref}
	switch {
	case status == state.Restarting:
		return fmt.Errorf("container %s is restarting, wait until the container is running", r.ID)
	case !status.Alive():
		return h.withStoppedRoot(ctx, c, do)
	}
	if err := lock.Close(); err != nil {
		return err
	}
	t, err := runtime.Open(run.Ref)
	if err != nil {
		return c.ended(err)
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if c.dir, err = t.Root(); err != nil {
		return c.ended(err)
	}
	defer func() { err = errors.Join(err, c.dir.Close()) }()
	c.tree = snapshot.OpenLive(c.dir)
	return do(c)
}

// ended says of which container it is that has ended meanwhile.
func (c *containerRoot) ended(err error) error {
	return fmt.Errorf("container %s has ended or is out of reach: %w; try again", c.ref, err)
}

func (h *Home) withStoppedRoot(ctx context.Context, c *containerRoot, do func(*containerRoot) error) (err error) {
	img, err := h.containerImage(ctx, c.record)
	if err != nil {
		return err
	}
	c.stopped = h
	defer func() { err = errors.Join(err, c.mounts.Close()) }()
	draft, err := h.draftOf(ctx, c.record, img)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, draft.Close()) }()
	if c.dir, err = draft.Mount(ctx); err != nil {
		return err
	}
	c.tree = snapshot.OpenLive(c.dir)
	return do(c)
}

// find follows links of a path in the container, but for one of the last name, unless the path ends in "/" or "/.", or it is
// to be followed. A path of which only the last name is missing is found; else the error says that missing is.
func (c *containerRoot) find(ctx context.Context, name string, follow bool, missing string) (filePlace, error) {
	clean := strings.TrimPrefix(path.Join("/", name), "/")
	dir, base := path.Split(clean)
	if follow || base == "" || assertsDir(name) {
		dir, base = clean, ""
	}
	p := filePlace{tree: c.tree}
	at, err := p.tree.Resolve(dir)
	if m := c.mountOf(path.Join("/", at, base)); m != nil {
		if p.tree, err = c.openMount(ctx, m); err != nil {
			return p, err
		}
		p.mount = m
		inside := strings.TrimPrefix(strings.TrimPrefix(path.Join("/", at), m.Target), "/")
		if path.Join("/", at, base) == m.Target { // the mount itself
			inside, base = "", ""
		}
		at, err = p.tree.Resolve(inside)
	}
	if errors.Is(err, fs.ErrNotExist) && base == "" {
		if _, parentErr := p.tree.Lstat(path.Dir(at)); parentErr == nil {
			err = nil
		}
	}
	p.at = path.Join(at, base)
	if err != nil {
		return p, c.notFound(missing, err)
	}
	return p, nil
}

// shown is the path in the container.
func (p *filePlace) shown() string {
	if p.mount != nil {
		return path.Join(p.mount.Target, p.at)
	}
	return path.Join("/", p.at)
}

// mountOf is what a path is in of what is mounted in a container that does not run; nil if it is in the root.
func (c *containerRoot) mountOf(name string) (found *container.MountPoint) {
	if c.stopped == nil {
		return nil
	}
	points := c.record.Config.MountPoints
	for i := range points {
		target := points[i].Target
		if (name == target || strings.HasPrefix(name, target+"/")) && (found == nil || len(target) > len(found.Target)) {
			found = &points[i]
		}
	}
	return found
}

// openMount opens what is mounted in a container that does not run.
func (c *containerRoot) openMount(ctx context.Context, m *container.MountPoint) (*snapshot.Live, error) {
	if m.Type == "tmpfs" {
		return nil, fmt.Errorf("%s is there only while container %s runs: start it", m.Target, c.ref)
	}
	dir, err := c.stopped.openMountDir(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("mount at %s of container %s: %w", m.Target, c.ref, err)
	}
	if m.Type == "volume" {
		c.mounts.Push(c.stopped.released(ctx, m.Name))
	}
	c.mounts.Push(dir.Close)
	return snapshot.OpenLive(dir), nil
}

// notFound is docker's error for a path that is not there.
func (c *containerRoot) notFound(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &NoFileError{path.Join("/", name), c.ref}
	}
	return err
}

// A NoFileError says that a container has no file at a path.
type NoFileError struct{ Path, Container string }

// Error is docker's text.
func (e *NoFileError) Error() string {
	return fmt.Sprintf("Could not find the file %s in container %s", e.Path, e.Container)
}

// writable opens a directory in which something is to be written; name is what the user has called it.
func (c *containerRoot) writable(p filePlace, name string) (*os.File, error) {
	dir, err := p.tree.Dir(p.at)
	if err != nil {
		return nil, c.notFound(name, err)
	}
	err = c.checkWritable(dir, p.mount)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

const (
	errReadOnlyRoot   = words.ForbiddenError("container rootfs is marked read-only")
	errReadOnlyVolume = words.ForbiddenError("mounted volume is marked read-only")
)

func (c *containerRoot) checkWritable(dir *os.File, mount *container.MountPoint) error {
	switch {
	case mount != nil && mount.ReadOnly:
		return errReadOnlyVolume
	case mount == nil && c.stopped != nil && c.record.Config.ReadOnly:
		return errReadOnlyRoot
	case c.stopped != nil:
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return err
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	var here, root unix.Statx_t
	for f, stx := range map[*os.File]*unix.Statx_t{dir: &here, c.dir: &root} {
		if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, stx); err != nil {
			return err
		}
	}
	if here.Mnt_id == root.Mnt_id {
		return errReadOnlyRoot
	}
	return errReadOnlyVolume
}

// assertsDir reports whether a path says by its end that it is a directory.
func assertsDir(name string) bool {
	return strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") || name == "." || name == ".."
}
