package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// Layers that are unpacked are in snapshots/<diffID> when they are durable. Until then the name has the boot ID behind
// it: as long as the machine is up all of the tree can be read, and when it has gone down nobody knows how much of it is
// on the disk. One syncfs at the end of the process makes all of them durable.

// unpackedTrees are the trees that this process has unpacked and not made durable.
type unpackedTrees struct {
	mu    sync.Mutex
	fresh []string // names in snapshots
}

// openTree opens the unpacked tree of a layer, unpacking it first if need be.
func (s *Store) openTree(ctx context.Context, layer image.Layer) (int, error) {
	boot, err := bootID()
	if err != nil {
		return -1, err
	}
	final := s.snapshotPath(layer.DiffID, "")
	volatile := final + "~" + boot
	fd, err := openEither(final, volatile)
	if !errors.Is(err, fs.ErrNotExist) {
		return fd, err
	}
	dir, err := s.session.newDir(s.drafts())
	if err != nil {
		return -1, err
	}
	tree := filepath.Join(dir, "tree")
	err = s.unpackLayer(ctx, layer, tree)
	if err == nil {
		err = failpoint.At("snapshot.unpack.before-rename")
	}
	if err == nil {
		err = s.trees.keep(tree, volatile)
	}
	s.reaper.do(func() error { return removeTree(dir) })
	if err != nil {
		return -1, fmt.Errorf("layer %s: unpack: %w", layer.DiffID, err)
	}
	return openEither(final, volatile) // if the tree is another process's, that may just have renamed it
}

// openEither opens a tree at one of its places. The process that made it may rename it from volatile to final meanwhile.
func openEither(final, volatile string) (fd int, err error) {
	for _, path := range []string{final, volatile, final} {
		fd, err = openPath(path)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return fd, err
}

// keep gives a tree its place. It may be taken, by a process that did the same.
func (t *unpackedTrees) keep(tree, path string) error {
	err := durable.Move(tree, path)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fresh = append(t.fresh, path)
	return nil
}

// sync makes durable what this process has unpacked.
func (t *unpackedTrees) sync() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.fresh) == 0 {
		return nil
	}
	dir, err := openDirectory(filepath.Dir(t.fresh[0]))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return os.NewSyscallError("syncfs", err)
	}
	if err := failpoint.At("snapshot.settle.before-rename"); err != nil {
		return err
	}
	var errs []error
	for _, path := range t.fresh {
		final := path[:strings.LastIndexByte(path, '~')]
		err := durable.Move(path, final)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) { // another process did the same; overlayfs says EEXIST, others ENOTEMPTY
			errs = append(errs, err)
		}
	}
	t.fresh = nil
	return errors.Join(errs...)
}

// sweepTrees deletes trees that were not durable when the machine went down.
func (s *Store) sweepTrees() error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		_, at, volatile := strings.Cut(e.Name(), "~")
		if volatile && at != boot {
			errs = append(errs, removeTree(filepath.Join(s.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// bootID names this run of the machine.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// openPath opens a directory for reference only.
func openPath(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}
