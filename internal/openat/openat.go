// Package openat opens what is below a directory by the directory's descriptor, so that nothing that is in it, or that others put there
// meanwhile, leads out.
//
// The kernel does so (openat2). Where it lacks that, as older versions of gVisor do, names are opened component by component, each by the descriptor of the
// one before, and links are read and not followed.
package openat

import (
	"cmp"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Beneath opens a name below a directory. None of its components may be a link; the last may be with O_PATH and O_NOFOLLOW, which open the link
// itself. Errors are numbers of the kernel.
func Beneath(dir int, name string, flags int) (int, error) {
	return open(&walk{root: dir}, name, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
}

// InRoot opens a name as a process does whose root the directory is: links are followed, and "/" and ".." do not leave it. Errors are numbers of
// the kernel.
func InRoot(dir int, name string, flags int) (int, error) {
	return open(&walk{root: dir, follow: true}, name, flags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

func open(w *walk, name string, flags int, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	for {
		fd, err := unix.Openat2(w.root, name, &how)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			// EAGAIN: something on the machine was renamed while ".." was resolved, so the kernel cannot vouch for it.
		case errors.Is(err, unix.ENOSYS):
			fd, err = w.open(name, flags)
			w.close()
			return fd, err
		default:
			return fd, err
		}
	}
}

// A walk opens a name without openat2.
type walk struct {
	root   int
	dirs   []int // below the root, each in the one before
	follow bool  // links
	links  int   // that were followed
}

// maxLinks is the kernel's limit.
const maxLinks = 40

func (w *walk) close() {
	for w.up() {
	}
}

// up leaves a directory, unless that is the root.
func (w *walk) up() bool {
	if len(w.dirs) == 0 {
		return false
	}
	_ = unix.Close(w.dirs[len(w.dirs)-1]) // it was open for reference only
	w.dirs = w.dirs[:len(w.dirs)-1]
	return true
}

// at opens what is in the directory that the walk has come to.
func (w *walk) at(name string, flags int) (int, error) {
	dir := w.root
	if len(w.dirs) > 0 {
		dir = w.dirs[len(w.dirs)-1]
	}
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// open is the walk.
func (w *walk) open(name string, flags int) (int, error) {
	if name == "" {
		return -1, unix.ENOENT
	}
	if strings.HasPrefix(name, "/") && !w.follow {
		return -1, unix.EXDEV
	}
	for rest := name; rest != ""; {
		elem, after, more := strings.Cut(rest, "/")
		target, err := "", error(nil)
		switch {
		case elem == "" || elem == ".":
		case elem == "..":
			if !w.up() && !w.follow {
				return -1, unix.EXDEV
			}
		case more: // it has to be a directory
			target, err = w.enter(elem)
		default:
			var fd int
			if target, fd, err = w.last(elem, flags); target == "" {
				return fd, err
			}
		}
		switch {
		case err != nil:
			return -1, err
		case target == "":
			rest = after
		case more:
			rest = target + "/" + after
		default:
			rest = target
		}
	}
	return w.at(".", flags)
}

// enter goes into a directory. Of a link it returns where that leads.
func (w *walk) enter(name string) (target string, err error) {
	fd, err := w.at(name, unix.O_PATH)
	if err != nil {
		return "", err
	}
	kind, err := kindOf(fd)
	switch {
	case err != nil:
	case kind == unix.S_IFDIR:
		w.dirs = append(w.dirs, fd)
		return "", nil
	case kind == unix.S_IFLNK:
		target, err = w.read(fd)
	default:
		err = unix.ENOTDIR
	}
	return target, closed(fd, err)
}

// last opens the last component. Of a link that is to be followed it returns where that leads.
func (w *walk) last(name string, flags int) (target string, fd int, err error) {
	for {
		fd, err = w.at(name, flags)
		if flags&unix.O_NOFOLLOW != 0 || err == nil && flags&unix.O_PATH == 0 {
			return "", fd, err
		}
		if err != nil && !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
			return "", fd, err
		}
		refused := err
		if err != nil { // it is a link, or was one
			if fd, err = w.at(name, unix.O_PATH); err != nil {
				return "", fd, err
			}
		}
		kind, err := kindOf(fd)
		switch {
		case err == nil && kind == unix.S_IFLNK:
			target, err = w.read(fd)
			return target, -1, closed(fd, err)
		case err == nil && refused == nil:
			return "", fd, nil
		case err == nil && errors.Is(refused, unix.ELOOP): // it was replaced
			_ = unix.Close(fd)
		default:
			return "", -1, closed(fd, cmp.Or(err, refused))
		}
	}
}

// read reads a link that is to be followed. One of procfs may lead to what it does not name.
func (w *walk) read(fd int) (target string, err error) {
	if w.links++; !w.follow || w.links > maxLinks {
		return "", unix.ELOOP
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return "", err
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return "", unix.ELOOP
	}
	if target, err = Readlink(fd, ""); err != nil {
		return "", err
	}
	if strings.HasPrefix(target, "/") {
		w.close()
	}
	return target, nil
}

// closed closes a descriptor that was open for reference only, after err.
func closed(fd int, err error) error {
	_ = unix.Close(fd)
	return err
}

func kindOf(fd int) (uint32, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Mode & unix.S_IFMT, err
}

// Readlink reads the target of a symbolic link in an open directory, of any length; without a name, that of an open link.
func Readlink(dir int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}
