package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/openat"
)

// places are what a process gets that has no mounts of its own: each is put at its target in the root directory, where
// it covers what is there, and taken away again when all processes are gone. A directory is moved, from where it is to the target
// and back, with what was done to it meanwhile; a file is copied; a socket gets a second name. Nothing keeps a process from
// writing to what is to be read-only.
type places struct {
	root  *os.File // a directory that is no mount of its own
	path  string   // where that is
	aside string   // directory beside it, on the same file system, for what is covered
	list  []place

	copies []*os.File // those that were copied there: secrets among them
}

// A place is one of them.
type place struct {
	parent        *os.File // the target's directory, which what happens to names cannot change
	name          string   // of the target in it
	from          string   // where the directory was that was moved; "" is that there is nothing to move back
	covered       string   // where that is which was there before; "" if nothing was
	before, after unix.Stat_t
}

// newPlaces prepares what every process gets: /dev and /proc.
func newPlaces(root *os.File) (p *places, err error) {
	name, err := os.Readlink(fdPath(root))
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(name) || name == "/" {
		return nil, fmt.Errorf("root %s: is not a directory of its own", name)
	}
	var at unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &at); err != nil {
		return nil, os.NewSyscallError("fstatfs", err)
	}
	if at.Flags&unix.ST_NOEXEC != 0 {
		return nil, fmt.Errorf("%s is on a file system that is mounted noexec: put the store elsewhere, by FORGE_ROOT", name)
	}
	p = &places{root: root, path: name}
	if p.aside, err = os.MkdirTemp(filepath.Dir(name), ".aside-"); err != nil {
		return nil, err
	}
	for _, own := range []struct {
		target string
		fill   func(dir string) error
	}{{"/dev", fillDev}, {"/proc", fillProc}} {
		dir := p.in("own")
		if err = os.Mkdir(dir, 0o755); err == nil {
			err = own.fill(dir)
		}
		if err == nil {
			err = p.put(dir, "", own.target)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", own.target, err), p.remove())
		}
	}
	return p, nil
}

func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// in is a path in the directory aside, for the place that is put next.
func (p *places) in(name string) string {
	return filepath.Join(p.aside, strconv.Itoa(len(p.list))+"."+name)
}

// fillDev makes the devices of a container. Where they may not be made or used, as in a user namespace, there are none but a
// file in the place of null.
func fillDev(dir string) error {
	umask := unix.Umask(0)
	defer unix.Umask(umask)
	for _, d := range devices() {
		name := filepath.Join(dir, d.name)
		err := unix.Mknod(name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor)))
		if err == nil && d.name != "tty" { // which only a process that has one can open
			var fd int
			if fd, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
				err = unix.Close(fd)
			}
		}
		if err == nil {
			continue
		}
		_ = os.Remove(name)
		if d.name == "null" {
			if err := os.WriteFile(name, nil, 0o666); err != nil {
				return err
			}
		}
	}
	return errors.Join(os.Symlink("null", filepath.Join(dir, "stdin")), os.Mkdir(filepath.Join(dir, "shm"), 0o777|os.ModeSticky))
}

// fillProc copies what says something about the machine. There is nothing about processes.
func fillProc(dir string) error {
	for _, name := range []string{"cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version"} {
		text, err := os.ReadFile("/proc/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o444); err != nil {
			return err
		}
	}
	return nil
}

// fifo makes a pipe that has a name in /dev, in the place of one that /dev/stdout would lead to by way of /proc.
func (p *places) fifo(name string) (r, w *os.File, err error) {
	at := filepath.Join(p.path, "dev", name)
	umask := unix.Umask(0)
	err = unix.Mkfifo(at, 0o666)
	unix.Umask(umask)
	if err != nil {
		return nil, nil, &os.PathError{Op: "mkfifo", Path: at, Err: err}
	}
	if r, err = os.OpenFile(at, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return nil, nil, err
	}
	fd, err := unix.Open(at, unix.O_WRONLY|unix.O_CLOEXEC, 0) // blocking, as the process expects it
	if err != nil {
		r.Close()
		return nil, nil, &os.PathError{Op: "open", Path: at, Err: err}
	}
	return r, os.NewFile(uintptr(fd), at), nil
}

// sameOutput gives /dev/stderr to what has standard output and error in one.
func (p *places) sameOutput() error {
	if p == nil {
		return nil
	}
	return os.Symlink("stdout", filepath.Join(p.path, "dev", "stderr"))
}

// add puts what a mount would show at its target.
func (p *places) add(m *Mount) error {
	if m.Source == nil {
		dir := p.in("own")
		mode := os.FileMode(m.Tmpfs.Mode & 0o777)
		if m.Tmpfs.Mode == 0 {
			mode = 0o777 | os.ModeSticky
		} else if m.Tmpfs.Mode&unix.S_ISVTX != 0 {
			mode |= os.ModeSticky
		}
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, int(m.Tmpfs.UID), int(m.Tmpfs.GID)), os.Chmod(dir, mode)); err != nil {
			return err
		}
		return p.put(dir, "", m.Target)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(m.Source.Fd()), &st); err != nil {
		return err
	}
	from, err := os.Readlink(fdPath(m.Source))
	if err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.put(from, from, m.Target)
	case unix.S_IFREG:
		copied := p.in("own")
		if err := copyFile(m.Source, copied, &st); err != nil {
			return err
		}
		f, err := os.Open(copied)
		if err != nil {
			return err
		}
		p.copies = append(p.copies, f)
		return p.put(copied, "", m.Target)
	case unix.S_IFSOCK:
		link := p.in("own")
		if err := os.Link(from, link); err != nil {
			return err
		}
		return p.put(link, "", m.Target)
	}
	return fmt.Errorf("%s: a device cannot be given without a mount", from)
}

// copied is how many files were copied.
func (p *places) copied() int {
	if p == nil {
		return 0
	}
	return len(p.copies)
}

// copyFile copies a file with owner, mode and time.
func copyFile(source *os.File, to string, st *unix.Stat_t) (err error) {
	r, err := os.Open(fdPath(source)) // it may be open only to be mounted
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if chownErr := w.Chown(int(st.Uid), int(st.Gid)); !errors.Is(chownErr, unix.EINVAL) { // an id that this user namespace has not
		err = errors.Join(err, chownErr)
	}
	return errors.Join(err, unix.Fchmod(int(w.Fd()), st.Mode&0o7777),
		unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, 0), w.Close())
}

// put moves what is at a path to a target in the root.
func (p *places) put(thing, from, target string) (err error) {
	if rest, ok := strings.CutPrefix(target, "/dev/"); ok { // where nobody has made a mount point
		root, err := os.OpenRoot(filepath.Join(p.path, "dev"))
		if err != nil {
			return err
		}
		if err := errors.Join(root.MkdirAll(path.Dir(rest), 0o755), root.Close()); err != nil {
			return err
		}
	}
	fd, err := openat.InRoot(int(p.root.Fd()), path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	at := place{parent: os.NewFile(uintptr(fd), path.Dir(target)), name: path.Base(target), from: from}
	defer func() {
		if err != nil {
			at.parent.Close()
		}
	}()
	if err := unix.Fstat(fd, &at.before); err != nil {
		return err
	}
	covered := p.in("covered")
	switch err := unix.Renameat(fd, at.name, unix.AT_FDCWD, covered); err {
	case nil:
		at.covered = covered
	case unix.ENOENT:
	default:
		return &os.LinkError{Op: "rename", Old: target, New: covered, Err: err}
	}
	p.list = append(p.list, at)
	if err := unix.Renameat(unix.AT_FDCWD, thing, fd, at.name); err != nil {
		p.list[len(p.list)-1].from = ""
		return &os.LinkError{Op: "rename", Old: thing, New: target, Err: err}
	}
	return unix.Fstat(fd, &p.list[len(p.list)-1].after)
}

// remove takes everything away, the last first. No process may be left that is in the root.
func (p *places) remove() error {
	if p == nil {
		return nil
	}
	var errs []error
	for len(p.list) > 0 {
		last := p.list[len(p.list)-1]
		p.list = p.list[:len(p.list)-1]
		errs = append(errs, last.remove(p.in("used")), last.parent.Close())
	}
	for _, f := range p.copies {
		errs = append(errs, f.Close())
	}
	p.copies = nil
	return errors.Join(append(errs, os.RemoveAll(p.aside))...)
}

// remove moves what is at the target away, and what it covered back. A directory goes to where it came from. What is now at the
// target counts, whatever the processes have done.
func (at *place) remove(used string) error {
	dir := int(at.parent.Fd())
	var now unix.Stat_t
	if err := unix.Fstat(dir, &now); err != nil {
		return err
	}
	to := used
	var st unix.Stat_t
	err := unix.Fstatat(dir, at.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if isDir := err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR; at.from != "" && isDir {
		to = at.from
	} else if at.from != "" {
		if err := os.Mkdir(at.from, 0o755); err != nil { // it begins anew
			return err
		}
	}
	if err == nil {
		err = unix.Renameat(dir, at.name, unix.AT_FDCWD, to)
	}
	if err != nil && err != unix.ENOENT {
		return &os.LinkError{Op: "rename", Old: at.name, New: to, Err: err}
	}
	if at.covered != "" {
		if err := unix.Renameat(unix.AT_FDCWD, at.covered, dir, at.name); err != nil {
			return &os.LinkError{Op: "rename", Old: at.covered, New: at.name, Err: err}
		}
	}
	// Whoever has changed the directory in the meantime has set a time that is worth keeping; our own is not.
	times := []unix.Timespec{now.Atim, now.Mtim}
	if now.Mtim == at.after.Mtim {
		times = []unix.Timespec{at.before.Atim, at.before.Mtim}
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(dir, "", times, unix.AT_EMPTY_PATH))
}
