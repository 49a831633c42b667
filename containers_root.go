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
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// A containerRoot is the root directory of a container, open to be read and written: of one that runs what its processes see,
// mounts included, else what it has written on top of its image.
type containerRoot struct {
	record  *containerRecord
	ref     string // the container as the user has named it
	dir     *os.File
	tree    *snapshot.Live
	stopped bool

	// Of one that does not run:
	mounts   []string // that are not there
	open     func(*container.MountPoint) (*os.File, error)
	entered  *container.MountPoint // whose directory takes the place of the root; nil if it is the root
	readOnly error                 // why nothing can be written
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
	options, err := c.record.Config.parse()
	if err != nil {
		return err
	}
	c.mounts, c.stopped = container.Targets(options.Mounts), true
	for _, p := range c.record.Config.MountPoints {
		c.mounts = append(c.mounts, p.Target)
	}
	var open closers.Stack
	defer func() { err = errors.Join(err, open.Close()) }()
	c.open = func(p *container.MountPoint) (*os.File, error) {
		f, err := h.openMountDir(ctx, p)
		if err == nil {
			open.Push(f.Close)
		}
		return f, err
	}
	if c.record.Config.ReadOnly {
		c.readOnly = errReadOnlyRoot
	}
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
// to be followed. A path of which only the last name is missing is found; the error names its directory.
func (c *containerRoot) find(name string, follow bool) (at string, err error) {
	clean, err := c.enter(path.Join("/", name))
	if err != nil {
		return "", err
	}
	dir, base := path.Split(clean)
	if follow || base == "" || assertsDir(name) {
		dir, base = clean, ""
	}
	if at, err = c.tree.Resolve(dir); errors.Is(err, fs.ErrNotExist) && base == "" {
		if _, parentErr := c.tree.Lstat(path.Dir(at)); parentErr == nil {
			err = nil
		}
	}
	if err != nil {
		return "", c.notFound(path.Dir(path.Join("/", name)), err)
	}
	at = path.Join(at, base)
	if c.entered != nil {
		return at, nil
	}
	for _, m := range c.mounts {
		if m == "/"+at || strings.HasPrefix("/"+at, m+"/") {
			return "", fmt.Errorf("%s is in the mount at %s, which is there only while container %s runs: start it", name, m, c.ref)
		}
	}
	return at, nil
}

// enter makes a volume or directory that a container which does not run would have mounted, and in which a clean path lies, the
// root directory, and returns the path in that, or else in the root.
func (c *containerRoot) enter(name string) (string, error) {
	var in *container.MountPoint
	for i := range c.record.Config.MountPoints {
		p := &c.record.Config.MountPoints[i]
		inside := name == p.Target || strings.HasPrefix(name, p.Target+"/")
		if c.stopped && inside && p.Type != "tmpfs" && (in == nil || len(p.Target) > len(in.Target)) {
			in = p
		}
	}
	if in == nil {
		return strings.TrimPrefix(name, "/"), nil
	}
	dir, err := c.open(in)
	if errors.Is(err, unix.ENOTDIR) { // a file is not gone into
		return strings.TrimPrefix(name, "/"), nil
	}
	if err != nil {
		return "", err
	}
	c.entered, c.dir, c.tree, c.readOnly = in, dir, snapshot.OpenLive(dir), nil
	if in.ReadOnly {
		c.readOnly = errReadOnlyMount
	}
	return strings.TrimPrefix(strings.TrimPrefix(name, in.Target), "/"), nil
}

// notFound is docker's error for a path that is not there.
func (c *containerRoot) notFound(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("Could not find the file %s in container %s", path.Join("/", name), c.ref) //nolint:staticcheck // docker's words
	}
	return err
}

// writable opens a directory in which something is to be written; name is what the user has called it.
func (c *containerRoot) writable(at, name string) (*os.File, error) {
	dir, err := c.tree.Dir(at)
	if err != nil {
		return nil, c.notFound(name, err)
	}
	err = c.checkWritable(dir)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

var (
	errReadOnlyRoot  = errors.New("container rootfs is marked read-only")
	errReadOnlyMount = errors.New("mounted volume is marked read-only")
)

func (c *containerRoot) checkWritable(dir *os.File) error {
	if c.stopped {
		return c.readOnly
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
	return errReadOnlyMount
}

// assertsDir reports whether a path says by its end that it is a directory.
func assertsDir(name string) bool {
	return strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") || name == "." || name == ".."
}
