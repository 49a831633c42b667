package snapshot

import (
	"context"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
)

// An upper directory is nearly what unpacking its layer would give. Where layers are unpacked, Commit makes it exactly
// that while it reads it, so that the next step need not unpack what this one has written. The layer may be stacked on
// other layers than those it was made on, so nothing may stay that the layer does not say: no copy of what lies below, no
// opaque directory.

// dropFromUpper takes a file out of the upper directory that is not in the layer.
func (f *differ) dropFromUpper(d *diffDir, name string) error {
	if !f.tidy {
		return nil
	}
	d.touched = true
	return removeAt(d.open.fd, name)
}

// markRemoved puts a whiteout into the upper directory where it had another way to say the same.
func (f *differ) markRemoved(d *diffDir, name string) error {
	if !f.tidy {
		return nil
	}
	if err := f.dropFromUpper(d, name); err != nil {
		return err
	}
	return unix.Mknodat(d.open.fd, name, unix.S_IFCHR, 0)
}

// restoreDirTimes is called when all in a directory has been seen.
func (f *differ) restoreDirTimes(d *diffDir) error {
	if !f.tidy {
		return nil
	}
	if d.opaque {
		if err := unix.Fremovexattr(d.open.fd, f.rights.overlayPrefix()+"opaque"); err != nil {
			return os.NewSyscallError("fremovexattr", err)
		}
	}
	if !d.touched && !f.clamps(&d.entry) {
		return nil
	}
	return futimes(d.open.fd, &d.entry)
}

// restoreFileTime is called for a file that is in the layer.
func (f *differ) restoreFileTime(d *diffDir, e *Entry) error {
	if !f.tidy || !f.clamps(e) {
		return nil
	}
	return unix.UtimesNanoAt(d.open.fd, e.Name, times(e), unix.AT_SYMLINK_NOFOLLOW)
}

// clamps reports whether the time in the layer may not be that of the file.
func (f *differ) clamps(e *Entry) bool { return f.epoch != nil && e.ModTime.Equal(*f.epoch) }

// notice looks for attributes that the layer cannot have and unpacking would not give.
func (f *differ) notice(path, attribute string) {
	if strings.HasPrefix(attribute, "system.posix_acl_") {
		f.lost.add(path)
	}
	if !filetree.KeepXattr(attribute) && !strings.HasPrefix(attribute, f.rights.overlayPrefix()) {
		f.inexact = true
	}
}

// adopt makes an upper directory that is exactly its layer the unpacked tree of the layer.
func (s *Store) adopt(ctx context.Context, layer image.Layer, upper string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	final := s.snapshotPath(layer.DiffID, "")
	if _, err := os.Lstat(final); err == nil {
		return nil
	}
	err = s.trees.keep(upper, final+"~"+boot)
	if errors.Is(err, unix.EXDEV) {
		return nil
	}
	return err
}
