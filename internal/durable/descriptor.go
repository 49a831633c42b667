package durable

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// descriptor reports whether a path is another name of a descriptor of this process: /dev/stdout, /dev/fd/3,
// /proc/self/fd/3, or a link to one of these. Such a path must not be opened anew: a file would be written from its
// beginning, and a socket cannot be opened.
func descriptor(path string) (int, bool) {
	const maxLinks = 8 // /dev/stdout takes one
	own := "/proc/" + strconv.Itoa(os.Getpid())
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return 0, false
		}
		if dir == own+"/fd" || strings.HasPrefix(dir, own+"/task/") && strings.HasSuffix(dir, "/fd") {
			n, err := strconv.Atoi(filepath.Base(path))
			return n, err == nil
		}
		link, err := os.Readlink(path)
		if err != nil {
			return 0, false
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(dir, link)
		}
		path = link
	}
	return 0, false
}

// inherited duplicates a descriptor that the process was started with. The access is O_RDONLY or O_WRONLY. Descriptors
// that the process has opened since are not the user's to name: they are closed on exec, and the others are not.
func inherited(path string, n, access int) (*os.File, error) {
	flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return nil, fmt.Errorf("%s: the process was given no descriptor %d", path, n)
	}
	mode, err := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0)
	if have := mode & unix.O_ACCMODE; err != nil || have != access && have != unix.O_RDWR {
		return nil, fmt.Errorf("%s: descriptor %d is not open for this", path, n)
	}
	fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, &fs.PathError{Op: "dup", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
