package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/openat"
)

// A mountpoint is one file or directory that had to be made so that something can be mounted there.
type mountpoint struct {
	parent int    // descriptor of the directory it is in
	name   string // in parent
	self   unix.Stat_t
	before unix.Stat_t // parent, before
	after  unix.Stat_t // parent, after
}

func (m mountpoint) close() error { return closeFD(m.parent) }

// Mountpoint makes sure that something of a type can be mounted at path, links resolved within the root, and returns the
// resolved path, which begins with "/". What it had to make, a directory or an empty file, is removed again, and the times of
// the parent put back, by Commit; unless somebody has put something there. It fails if path is a directory and kind is none,
// or the other way round.
func (d *Draft) Mountpoint(p string, kind fs.FileMode) (string, error) {
	n := len(d.made)
	resolved, err := d.mountpoint(p, kind)
	if err == nil && d.kept != "" {
		err = noteMountpoints(d.kept, d.made[n:])
	}
	return resolved, err
}

func (d *Draft) mountpoint(p string, kind fs.FileMode) (string, error) {
	if err := d.openOwn(); err != nil {
		return "", err
	}
	fd, err := d.makePath(path.Join("/", p), kind, 0)
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", p, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", fmt.Errorf("mount point %s: %w", p, err)
	}
	if isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR; isDir != kind.IsDir() {
		if kind.IsDir() {
			return "", fmt.Errorf("mount point %s: %w", p, unix.ENOTDIR)
		}
		return "", fmt.Errorf("mount point %s: %w", p, unix.EISDIR)
	}
	resolved, err := d.within(fd)
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", p, err)
	}
	return resolved, nil
}

// within is the path in the draft of what is open in it. Where the draft is no mount, but a directory, the kernel tells the
// path of that, too.
func (d *Draft) within(fd int) (string, error) {
	name, err := os.Readlink(procPath(fd))
	if err != nil {
		return "", err
	}
	root, err := os.Readlink(procPath(int(d.own.Fd())))
	if err != nil {
		return "", err
	}
	return path.Join("/", strings.TrimPrefix(name, root)), nil
}

// MakeDir is Mountpoint for a directory that stays.
func (d *Draft) MakeDir(p string) error {
	n := len(d.made)
	_, err := d.mountpoint(p, fs.ModeDir)
	for _, m := range d.made[n:] {
		err = errors.Join(err, m.close())
	}
	d.made = d.made[:n]
	return err
}

// openOwn opens a mount of the draft that nobody else has. On the other one, what is mounted on the mount points may stay
// for a while after the process that used it has ended, and would be found in their place.
func (d *Draft) openOwn() error {
	if d.own != nil {
		return nil
	}
	fd, err := cloneDir(int(d.root.Fd()), 0)
	if err != nil { // kernels before 6.15 do not clone what is detached
		fd, err = unix.FcntlInt(d.root.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	}
	if err != nil {
		return fmt.Errorf("mount points: %w", err)
	}
	d.own = os.NewFile(uintptr(fd), "draft")
	return nil
}

// makePath opens p, an absolute clean path within the root, making what is missing.
func (d *Draft) makePath(p string, kind fs.FileMode, links int) (int, error) {
	fd, err := d.openInRoot(p)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if links > 40 {
		return -1, unix.ELOOP
	}
	parent, err := d.makePath(path.Dir(p), fs.ModeDir, links)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	// It may be there after all: as a link to something that is not.
	var st unix.Stat_t
	err = unix.Fstatat(parent, path.Base(p), &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		target, err := d.danglingLink(parent, path.Base(p))
		if err != nil {
			return -1, err
		}
		return d.makePath(target, kind, links+1)
	}
	if !errors.Is(err, unix.ENOENT) {
		return -1, err
	}
	return d.make(parent, path.Base(p), kind)
}

// openInRoot opens p for reference only, following links as the process inside will.
func (d *Draft) openInRoot(p string) (int, error) {
	return openat.InRoot(int(d.own.Fd()), p, unix.O_PATH)
}

// danglingLink returns where the link name in parent points, as an absolute path within the root.
func (d *Draft) danglingLink(parent int, name string) (string, error) {
	target, err := openat.Readlink(parent, name)
	if err != nil {
		return "", err
	}
	if path.IsAbs(target) {
		return path.Clean(target), nil
	}
	at, err := d.within(parent)
	if err != nil {
		return "", err
	}
	return path.Join(at, target), nil
}

// make makes a directory or an empty file and remembers what is needed to undo it.
func (d *Draft) make(parent int, name string, kind fs.FileMode) (int, error) {
	m := mountpoint{name: name}
	if err := unix.Fstatat(parent, "", &m.before, unix.AT_EMPTY_PATH); err != nil {
		return -1, err
	}
	flags, mode := unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(0o755)
	if kind.IsDir() {
		if err := unix.Mkdirat(parent, name, mode); err != nil {
			return -1, err
		}
		flags |= unix.O_DIRECTORY
	} else {
		flags, mode = flags|unix.O_CREAT|unix.O_EXCL, 0o644
	}
	fd, err := unix.Openat(parent, name, flags, mode)
	if err != nil {
		return -1, err
	}
	if err := unix.Fchmod(fd, mode); err != nil { // whatever the umask is
		unix.Close(fd)
		return -1, err
	}
	err = unix.Fstat(fd, &m.self)
	if err == nil {
		err = unix.Fstatat(parent, "", &m.after, unix.AT_EMPTY_PATH)
	}
	if err == nil {
		m.parent, err = unix.FcntlInt(uintptr(parent), unix.F_DUPFD_CLOEXEC, 3)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	d.made = append(d.made, m)
	return fd, nil
}

// clearMountpoints removes what Mountpoint made, last first, so that a directory is empty when its turn comes.
func (d *Draft) clearMountpoints() error {
	for _, m := range slices.Backward(d.made) {
		if err := m.clear(); err != nil {
			return fmt.Errorf("mount point %s: %w", m.name, err)
		}
		if err := m.close(); err != nil {
			return err
		}
		d.made = d.made[:len(d.made)-1]
	}
	return nil
}

// clear removes the mount point if it is as it was made, and hides that it ever was.
func (m mountpoint) clear() error {
	var parent, self unix.Stat_t
	if err := unix.Fstatat(m.parent, "", &parent, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	err := unix.Fstatat(m.parent, m.name, &self, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || err == nil && self.Ino != m.self.Ino {
		return nil // somebody has removed it or put something else in its place
	}
	if err != nil {
		return err
	}
	if !m.unchanged(&self) {
		return nil
	}
	flags := 0
	if self.Mode&unix.S_IFMT == unix.S_IFDIR {
		flags = unix.AT_REMOVEDIR
	}
	err = unix.Unlinkat(m.parent, m.name, flags)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return err
	}
	// Whoever changed the directory in the meantime has set a time that is worth keeping; our own is not.
	mtim, atim := parent.Mtim, parent.Atim
	if mtim == m.after.Mtim {
		mtim, atim = m.before.Mtim, m.before.Atim
	}
	return unix.UtimesNanoAt(m.parent, "", []unix.Timespec{atim, mtim}, unix.AT_EMPTY_PATH)
}

// unchanged reports whether nobody has done anything to the file that was made. A directory's times say nothing, as the
// mount points in it have come and gone; whether it is empty, the kernel will say.
func (m mountpoint) unchanged(now *unix.Stat_t) bool {
	if now.Mode != m.self.Mode || now.Uid != m.self.Uid || now.Gid != m.self.Gid {
		return false
	}
	if now.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true
	}
	return now.Size == 0 && now.Mtim == m.self.Mtim && now.Nlink == 1
}
