// Package files finds what paths in a container mean, running or not, and what they mean to docker cp: where a copy of what goes, by
// docker's table of cases. Links in a container never lead out of it.
package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/snapshot"
)

// A Root is the root directory of a container, open to be read and written: of one that runs what its processes see, mounts included, else
// what it has written on top of its image, and its volumes and binds beside that.
type Root struct {
	Container string // as the user has named it
	Dir       *os.File
	Stopped   *Stopped // nil if it runs

	tree   *snapshot.Live
	mounts []*mount // of a container that does not run, parents first
}

// Open returns the root of a container whose directory is open. stopped is nil if it runs.
func Open(name string, dir *os.File, stopped *Stopped) *Root {
	return &Root{Container: name, Dir: dir, Stopped: stopped, tree: snapshot.OpenLive(dir)}
}

// A Place is where a file of a container is, or would be.
type Place struct {
	tree  *snapshot.Live
	at    string
	mount *mount // of a container that does not run: what the file is in, if not in the root
}

// find follows links of a path in the container, but for one of the last name, unless the path ends in "/" or "/.", or it is
// to be followed. A path of which only the last name is missing is found; else the error says that missing is.
func (r *Root) find(ctx context.Context, name string, follow bool, missing string) (Place, error) {
	clean := strings.TrimPrefix(path.Join("/", name), "/")
	dir, base := path.Split(clean)
	if follow || base == "" || assertsDir(name) {
		dir, base = clean, ""
	}
	r.findMounts(ctx)
	at, err := r.resolve(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) && base == "" {
		if _, parentErr := r.lstat(ctx, path.Dir(at)); parentErr == nil {
			err = nil
		}
	}
	if err != nil {
		return Place{}, r.notFound(missing, err)
	}
	return r.place(ctx, path.Join(at, base))
}

// Shown is the path in the container.
func (p *Place) Shown() string {
	if p.mount != nil {
		return path.Join("/", p.mount.at, p.at)
	}
	return path.Join("/", p.at)
}

// In is a place beside, or in, the same tree; at is its path there.
func (p Place) In(at string) Place {
	p.at = at
	return p
}

// notFound is docker's error for a path that is not there.
func (r *Root) notFound(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{path.Join("/", name), r.Container}
	}
	return err
}

// A NotFoundError says that a container has no file at a path.
type NotFoundError struct{ Path, Container string }

// Error is docker's text.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("Could not find the file %s in container %s", e.Path, e.Container)
}

// Writable opens a directory in which something is to be written; name is what the user has called it.
func (r *Root) Writable(p Place, name string) (*os.File, error) {
	dir, err := p.tree.Dir(p.at)
	if err != nil {
		return nil, r.notFound(name, err)
	}
	err = r.checkWritable(dir, p.mount)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

const (
	errReadOnlyRoot   = words.ForbiddenError("container rootfs is marked read-only")
	errReadOnlyVolume = words.ForbiddenError("mounted volume is marked read-only")
)

func (r *Root) checkWritable(dir *os.File, mount *mount) error {
	switch {
	case mount != nil && mount.ReadOnly:
		return errReadOnlyVolume
	case mount == nil && r.Stopped != nil && r.Stopped.ReadOnly:
		return errReadOnlyRoot
	case r.Stopped != nil:
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
	for f, stx := range map[*os.File]*unix.Statx_t{dir: &here, r.Dir: &root} {
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
