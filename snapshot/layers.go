package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
)

// lowers returns what overlayfs is to stack for layers, lowest first, at least one. The Store owns the descriptors.
//
// Of a layer that comes twice the upper one is taken: it has all that the lower one has, and overlayfs refuses to stack a directory on
// itself.
//
// The view is of the same layers; the directories that are wrong look as in it. What lies below an opaque root is left out, as overlayfs
// does not look at the attribute there.
func (s *Store) lowers(ctx context.Context, layers []image.Layer, view *View, wrong *dirNode) ([]int, error) {
	lowers, err := s.mountParts(ctx, view.seen())
	if err != nil {
		return nil, err
	}
	if len(lowers) == 0 {
		void, err := s.session.empty(s.drafts())
		if err != nil {
			return nil, err
		}
		return []int{int(void.Fd())}, nil
	}
	impliedDirs, err := s.impliedDirs(ctx, layers, view, wrong)
	if impliedDirs >= 0 {
		lowers = append(lowers, impliedDirs)
	}
	return lowers, err
}

// mountParts returns a descriptor for each part. Those that are not mounted yet are, several at a time.
func (s *Store) mountParts(ctx context.Context, parts []part) ([]int, error) {
	fds := make([]int, len(parts))
	var missing []int
	for i, p := range parts {
		var ok bool
		if fds[i], ok = s.layers.have(p.id); !ok {
			missing = append(missing, i)
		}
	}
	return fds, several(len(missing), runtime.GOMAXPROCS(0), func(k int) (err error) {
		fds[missing[k]], err = s.mountPart(ctx, parts[missing[k]])
		return err
	})
}

// mountPart returns the descriptor of a part, which is mounted unless it has been.
func (s *Store) mountPart(ctx context.Context, p part) (int, error) {
	fd, err := s.layers.get(p.id, func() (int, error) {
		if kind, _ := s.Kind(); kind == EROFS {
			return s.mountTars(ctx, p)
		}
		return s.openTree(ctx, p.layers[0])
	})
	if err != nil {
		return -1, fmt.Errorf("layer %s: %w", p.id, err)
	}
	return fd, nil
}

// Ahead mounts layers for the first Draft that is kept on them. It may be called while the draft is not known yet, and what fails then fails for
// the draft.
func (s *Store) Ahead(ctx context.Context, layers []image.Layer) error {
	if kind, _ := s.Kind(); kind == Copy || len(layers) == 0 {
		return nil
	}
	view, err := s.viewStack(ctx, layers)
	if err != nil {
		return err
	}
	wrong, err := view.wrongDirs(ctx)
	if err == nil {
		_, err = s.lowers(ctx, layers, view, wrong)
	}
	return errors.Join(err, view.Close())
}

// mountTars mounts the tars of a part in place.
func (s *Store) mountTars(ctx context.Context, p part) (_ int, err error) {
	index, err := s.openIndex(ctx, p)
	if err != nil {
		return -1, err
	}
	tars := make([]*os.File, 0, len(p.layers))
	defer func() {
		closeAll(tars)
		err = errors.Join(err, index.Close())
	}()
	for _, layer := range p.layers {
		tar, err := s.openTar(ctx, layer)
		if err != nil {
			return -1, err
		}
		tars = append(tars, tar)
	}
	return mountEROFS(index, tars...)
}

// Mount returns a detached read-only mount of the layers, nodev. Closing it unmounts; nothing is attached to this
// machine's tree at any time.
func (s *Store) Mount(ctx context.Context, layers []image.Layer) (_ *os.File, err error) {
	view, err := s.View(ctx, layers)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	kind, _ := s.Kind()
	if kind == Copy {
		return s.mountMerged(ctx, layers, view)
	}
	wrong, err := view.wrongDirs(ctx)
	if err != nil {
		return nil, err
	}
	if wrong == nil && view.wrongRoot() { // which an upper directory would see to
		wrong = &dirNode{}
	}
	lowers, err := s.lowers(ctx, layers, view, wrong)
	if err != nil {
		return nil, err
	}
	if len(layers) == 0 {
		return cloneFile(lowers[0], unix.MOUNT_ATTR_RDONLY)
	}
	if len(lowers) == 1 {
		void, err := s.session.empty(s.drafts())
		if err != nil {
			return nil, err
		}
		// One alone would show its whiteouts, and overlayfs takes no less than two without an upper directory.
		lowers = []int{int(void.Fd()), lowers[0]}
	}
	fd, err := s.stack(overlayMount{lowers: lowers, upper: -1, userns: s.rights().userns})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "layers"), nil
}

// stack mounts an overlay. If that is refused, what was found out about this machine is worth nothing.
func (s *Store) stack(o overlayMount) (int, error) {
	fd, err := o.mount()
	if err != nil {
		s.forgetProbe()
	}
	return fd, err
}

// mountMerged mounts a whole copy of the layers' tree, which goes with the process.
func (s *Store) mountMerged(ctx context.Context, layers []image.Layer, view *View) (*os.File, error) {
	dir, err := s.layers.get("merged "+image.ChainID(layers), func() (int, error) {
		path, err := s.session.newDir(s.drafts())
		if err != nil {
			return -1, err
		}
		return s.copyTree(ctx, view, filepath.Join(path, "root"), nil)
	})
	if err != nil {
		return nil, err
	}
	return cloneFile(dir, unix.MOUNT_ATTR_RDONLY)
}

// copyTree writes a tree to a new directory, and opens that. Its files go to known unless that is nil.
func (s *Store) copyTree(ctx context.Context, tree Tree, path string, known map[uint64]copied) (int, error) {
	root, err := tree.Lstat(".")
	if err != nil {
		return -1, err
	}
	return s.copyEntry(ctx, unpackTree(tree, ".", root), path, known)
}

func (s *Store) copyEntry(ctx context.Context, root unpackEntry, path string, known map[uint64]copied) (int, error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return -1, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	u := newUnpacker(ctx, fd, s.rights())
	u.known, u.space = known, s.layout.CheckSpace
	if err := u.unpack(root); err != nil {
		return -1, errors.Join(err, closeFD(fd))
	}
	return fd, nil
}

// cloneFile returns a mount of an open directory or, where nothing can be mounted, the directory itself.
func cloneFile(dir int, attributes uint64) (*os.File, error) {
	fd, err := cloneDir(dir, attributes)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return dupFile(dir)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "root"), nil
}

// dupFile opens an open directory a second time.
func dupFile(dir int) (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "root"), nil
}
