package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Stopped is what would be mounted in a container that does not run.
type Stopped struct {
	Mounts   []container.MountPoint
	ReadOnly bool // its root
	// Open opens the directory of a volume or bind. The caller of Open of this package closes it, when the Root is no longer used.
	Open func(ctx context.Context, m *container.MountPoint) (*os.File, error)
}

// A mount is what would be mounted in a container that does not run.
type mount struct {
	*container.MountPoint
	at   string         // where it would be, links followed, as a tree has it
	tree *snapshot.Live // nil before the first look
}

// findMounts finds where everything would be mounted: in the order in which that is done, each in what is there by then. A target that is in
// what is nowhere before the container starts is taken as it is written.
func (r *Root) findMounts(ctx context.Context) {
	if r.Stopped == nil || r.mounts != nil {
		return
	}
	depth := func(m *container.MountPoint) int { return strings.Count(m.Target, "/") }
	var points []*container.MountPoint
	for i := range r.Stopped.Mounts {
		points = append(points, &r.Stopped.Mounts[i])
	}
	slices.SortStableFunc(points, func(a, b *container.MountPoint) int { return depth(a) - depth(b) })
	for _, p := range points {
		written := strings.TrimPrefix(p.Target, "/")
		at, err := r.resolve(ctx, written)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			at = written
		}
		r.mounts = append(r.mounts, &mount{MountPoint: p, at: at})
	}
}

// resolve follows the links of a path as the container would, the last one too, through what is mounted: see [filetree.Resolve].
func (r *Root) resolve(ctx context.Context, name string) (string, error) {
	return filetree.Resolve(func(name string) (filetree.Entry, error) { return r.lstat(ctx, name) }, name)
}

// lstat describes a file of the container. Where something is to be mounted there is a directory, also if none has been made yet.
func (r *Root) lstat(ctx context.Context, name string) (filetree.Entry, error) {
	p, err := r.place(ctx, name)
	if err != nil {
		return filetree.Entry{}, err
	}
	e, err := p.tree.Lstat(p.at)
	above := func(m *mount) bool { return strings.HasPrefix(m.at, name+"/") }
	if errors.Is(err, fs.ErrNotExist) && slices.ContainsFunc(r.mounts, above) {
		return filetree.Entry{Name: name, Mode: unix.S_IFDIR | 0o755}, nil
	}
	return e, err
}

// place says in which tree a file is, of whose path all links have been followed but for the last name.
func (r *Root) place(ctx context.Context, at string) (p Place, err error) {
	p = Place{tree: r.tree, at: at}
	for _, m := range r.mounts {
		if inside, ok := strings.CutPrefix(at, m.at); ok && (inside == "" || inside[0] == '/') && (p.mount == nil || len(m.at) >= len(p.mount.at)) {
			p.mount, p.at = m, path.Join(".", strings.TrimPrefix(inside, "/"))
		}
	}
	if p.mount == nil {
		return p, nil
	}
	p.tree, err = r.openMount(ctx, p.mount)
	return p, err
}

// openMount opens what is mounted in a container that does not run.
func (r *Root) openMount(ctx context.Context, m *mount) (*snapshot.Live, error) {
	if m.tree != nil {
		return m.tree, nil
	}
	if m.Type == "tmpfs" {
		return nil, fmt.Errorf("%s is there only while container %s runs: start it", m.Target, r.Container)
	}
	dir, err := r.Stopped.Open(ctx, m.MountPoint)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New(err.Error()) // that its source is missing does not mean that the file is
	}
	if err != nil {
		return nil, fmt.Errorf("mount at %s of container %s: %w", m.Target, r.Container, err)
	}
	m.tree = snapshot.OpenLive(dir)
	return m.tree, nil
}
