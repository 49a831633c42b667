package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
)

// DraftOptions tell what a draft is for; the zero value is a step of a build, thrown away by Close.
type DraftOptions struct {
	// Dir keeps what is written there, for a container: the draft is not mounted volatile, Close leaves it, and the next
	// Draft with the same Dir and layers goes on with it.
	Dir string
	// Volatile says that what is written in Dir need not survive a power cut.
	Volatile bool
	// Memory keeps what is written in memory, at most so many bytes; 0 keeps it on disk. It excludes Dir.
	Memory int64
	// Plain makes it a directory with a copy of the layers, and no mount, whatever the machine can mount: Memory is on disk then.
	Plain bool
}

// A Draft is a file system being written. It has no digest until committed, so it cannot lie below another. One goroutine
// at a time may call its methods.
type Draft struct {
	store *Store
	below *View
	dir   string   // what Close deletes; "" if there is nothing
	kept  string   // what Close leaves; "" if there is nothing
	upper *os.File // what has been written: overlayfs's upper directory, or a whole copy
	adopt bool     // upper may become the unpacked tree of the layer
	root  *os.File // detached mount
	own   *os.File // the same, for Mountpoint
	made  []mountpoint
	known map[uint64]copied // upper is a whole copy if not nil: the files as they were copied, by inode
	lost  noted             // POSIX ACLs, by Commit
	spare *spare            // upper as it is left to another draft: since Commit with the layer; nil if it is not to be
}

// Draft lends a writable file system on top of layers. Nothing is attached to this machine's tree: it is gone with the
// process, whatever ends that.
func (s *Store) Draft(ctx context.Context, layers []image.Layer, o DraftOptions) (_ *Draft, err error) {
	if o.Dir != "" && o.Memory != 0 {
		return nil, errors.New("draft: a directory to keep and memory exclude each other")
	}
	view := s.View
	if o.Dir != "" && !o.Plain {
		view = s.viewStarted
	}
	below, err := view(ctx, layers)
	if err != nil {
		return nil, err
	}
	d := &Draft{store: s, below: below, kept: o.Dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	kind, plain := Kind(""), o.Plain
	if !plain {
		kind, _ = s.Kind()
	}
	if (plain || kind == Copy) && o.Dir == "" && o.Memory == 0 {
		d.spare = &spare{layers: slices.DeleteFunc(slices.Clone(layers), hasNothing)}
		open := dupFile
		if !plain {
			open = func(fd int) (*os.File, error) { return cloneFile(fd, 0) }
		}
		if ok, err := d.takeSpare(ctx, layers, open); ok || err != nil {
			return d, err
		}
	}
	base := o.Dir
	if base == "" {
		if base, err = s.session.newDir(s.drafts()); err != nil {
			return nil, err
		}
		d.dir = base
	} else if err := makeOwn(base); err != nil {
		return nil, err
	}
	if plain || kind == Copy {
		return d, d.mountCopy(ctx, base, o)
	}
	return d, d.mountOverlay(ctx, layers, base, o)
}

// makeOwn makes a directory in which a draft is kept, unless it is there.
func makeOwn(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	dir, err := openDirectory(path)
	if err != nil {
		return err
	}
	return errors.Join(isolate(dir), dir.Close())
}

// mountOverlay stacks an upper directory in base on the layers.
func (d *Draft) mountOverlay(ctx context.Context, layers []image.Layer, base string, o DraftOptions) error {
	wrong, err := d.below.wrongDirs(ctx)
	if err != nil {
		return err
	}
	lowers, err := d.store.lowers(ctx, layers, d.below, wrong)
	if err != nil {
		return err
	}
	parent := unix.AT_FDCWD
	if o.Memory > 0 {
		if parent, err = mountTmpfs(o.Memory); err != nil {
			return err
		}
		defer unix.Close(parent)
		base = "."
	}
	upper, work := filepath.Join(base, "upper"), filepath.Join(base, "work")
	fresh, err := d.makeUpper(parent, upper)
	if err != nil {
		return err
	}
	if o.Volatile && !fresh { // overlayfs refuses what it has marked as volatile, since it may be lost after a crash
		if err := removeTree(work); err != nil {
			return err
		}
	}
	if err := unix.Mkdirat(parent, work, 0o700); err != nil && (fresh || !errors.Is(err, unix.EEXIST)) {
		return &os.PathError{Op: "mkdir", Path: work, Err: err}
	}
	workFD, err := unix.Openat(parent, work, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: work, Err: err}
	}
	defer unix.Close(workFD)
	mount := overlayMount{
		lowers: lowers, upper: int(d.upper.Fd()), work: workFD,
		volatile: o.Dir == "" || o.Volatile, userns: d.store.rights().userns,
	}
	fd, err := d.store.stack(mount)
	if err != nil {
		return err
	}
	d.root = os.NewFile(uintptr(fd), "draft")
	kind, _ := d.store.Kind()
	d.adopt = kind == Overlay && o == DraftOptions{}
	return nil
}

// makeUpper makes and opens the upper directory, whose metadata overlayfs shows as the root's, so it gets what the root
// has below. It reports whether it made it: a kept one is left as it is.
func (d *Draft) makeUpper(parent int, path string) (fresh bool, err error) {
	err = unix.Mkdirat(parent, path, 0o700)
	if fresh = err == nil; err != nil && !errors.Is(err, unix.EEXIST) {
		return false, &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	fd, err := unix.Openat(parent, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d.upper = os.NewFile(uintptr(fd), path)
	if !fresh {
		return false, nil
	}
	root, err := d.below.Lstat(".")
	if err != nil {
		return false, err
	}
	u := unpacker{rights: d.store.rights()}
	return true, u.setMetadata(fd, root)
}

// mountTmpfs makes a file system in memory of at most size bytes.
func mountTmpfs(size int64) (int, error) {
	fc, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount tmpfs: %w", err)
	}
	defer unix.Close(fc)
	err = unix.FsconfigSetString(fc, "size", fmt.Sprint(size))
	if err == nil {
		err = unix.FsconfigCreate(fc)
	}
	if err != nil {
		return -1, fmt.Errorf("mount tmpfs: %w", contextError(fc, err))
	}
	fd, err := unix.Fsmount(fc, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return -1, fmt.Errorf("mount tmpfs: %w", err)
	}
	return fd, nil
}

// Mount returns the detached mount of the draft's root, or its directory if it is plain; the Draft owns it. A mount may be moved
// to where it is needed.
func (d *Draft) Mount(ctx context.Context) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return d.root, nil
}

// Commit writes what changed as a layer: staged, not yet durable. Entries equal to what lies below are left out. Times
// after epoch are set to it if epoch is not nil. No process may be writing to the draft any more, and unless it is kept,
// it can only be closed afterwards.
func (d *Draft) Commit(ctx context.Context, epoch *time.Time) (image.Layer, error) {
	if d.root == nil {
		return image.Layer{}, errors.New("the draft was committed before")
	}
	if err := d.clearMountpoints(); err != nil {
		return image.Layer{}, err
	}
	f := differ{ctx: ctx, below: d.below, epoch: epoch, rights: d.store.rights(), known: d.known, tidy: d.adopt}
	layer, err := d.store.commitDiff(&f, d.upper)
	d.lost = f.lost
	if d.spare != nil && err == nil {
		d.spare.dir, d.spare.upper = d.dir, d.upper
		if !hasNothing(layer) {
			d.spare.layers = append(d.spare.layers, layer)
		}
	}
	if err == nil && d.adopt && !f.inexact {
		err = d.leaveUpper(ctx, layer)
	}
	return layer, err
}

// commitDiff writes what the differ finds in a directory as a layer.
func (s *Store) commitDiff(f *differ, upper *os.File) (layer image.Layer, err error) {
	w := s.newLayerWriter(f.ctx)
	f.layer = w
	defer f.close()
	err = f.diff(int(upper.Fd()))
	if err == nil {
		layer, err = w.Commit(f.ctx)
	}
	return layer, errors.Join(err, w.Close())
}

// Dropped says, in a sentence for the user, what the last Commit left out of the layer although a process had set it; "" if
// there is nothing of that kind.
func (d *Draft) Dropped() string {
	if d.lost.n == 0 {
		return ""
	}
	return fmt.Sprintf("POSIX ACLs are left out, as layers of images do not have them: of %s", &d.lost)
}

// leaveUpper makes the upper directory the unpacked tree of the layer. It is unmounted before that, as overlayfs does not
// like to find in a stack what another one writes to.
func (d *Draft) leaveUpper(ctx context.Context, layer image.Layer) error {
	var errs []error
	for _, f := range []*os.File{d.own, d.root} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	d.own, d.root, d.adopt = nil, nil, false
	return errors.Join(append(errs, d.store.adopt(ctx, layer, d.upper.Name()))...)
}

// Close unmounts the draft and deletes what was written, in the background, unless it is to be kept.
func (d *Draft) Close() error {
	var errs []error
	for _, m := range d.made {
		errs = append(errs, m.close())
	}
	if d.below != nil {
		errs = append(errs, d.below.Close())
	}
	if d.spare != nil && d.spare.upper != nil {
		errs = append(errs, d.leaveSpare())
	}
	files, dir := []*os.File{d.own, d.root, d.upper}, d.dir
	d.made, d.below, d.own, d.root, d.upper, d.dir = nil, nil, nil, nil, nil, ""
	free := func() error {
		var errs []error
		for _, f := range files {
			if f != nil {
				errs = append(errs, f.Close())
			}
		}
		if dir != "" {
			errs = append(errs, removeTree(dir))
		}
		return errors.Join(errs...)
	}
	if dir == "" { // somebody is about to use or to delete the directory
		errs = append(errs, free())
	} else {
		d.store.reaper.do(free)
	}
	return errors.Join(errs...)
}

func (s *Store) drafts() string { return filepath.Join(s.root, "drafts") }
