package container

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/openat"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot/filetree"
)

// LookupUser looks up USER in the files of a tree, without mounting it and without running anything of it. A nil tree has
// no files. A name that is not found is a runtime.UnknownUserError.
func LookupUser(files filetree.Tree, user string) (runtime.User, error) {
	return lookupUser(user, func(name string) (io.ReadCloser, error) { return openUserFile(files, name) })
}

// LookupUserIn is as LookupUser in the files below a directory, which may be changing. The user gets more groups, each by its
// name or number.
func LookupUserIn(root *os.File, user string, groups []string) (runtime.User, error) {
	u, err := lookupUser(user, func(name string) (io.ReadCloser, error) { return openBelow(root, name) })
	if err != nil || len(groups) == 0 {
		return u, err
	}
	f, err := openBelow(root, "etc/group")
	if err != nil {
		return u, fmt.Errorf("/etc/group: %w", err)
	}
	if f == nil {
		return u, u.AddGroups(groups, nil)
	}
	return u, errors.Join(u.AddGroups(groups, f), f.Close())
}

func lookupUser(user string, open func(name string) (io.ReadCloser, error)) (runtime.User, error) {
	var readers [2]io.Reader
	for i, name := range []string{"etc/passwd", "etc/group"} {
		f, err := open(name)
		if err != nil {
			return runtime.User{}, fmt.Errorf("/%s: %w", name, err)
		}
		if f != nil {
			defer f.Close()
			readers[i] = f
		}
	}
	u, err := runtime.LookupUser(user, readers[0], readers[1])
	// In docker and BuildKit a process has its group among its supplementary ones, too.
	if err == nil && !slices.Contains(u.Groups, u.GID) {
		u.Groups = slices.Insert(u.Groups, 0, u.GID)
	}
	return u, err
}

// openBelow opens a regular file below a directory, as a process whose root that is would, or returns nil if there is none. Nothing else is
// opened, as that alone may do something: a device, of which a container may have made the node, rewinds a tape.
func openBelow(root *os.File, name string) (io.ReadCloser, error) {
	fd, err := openat.InRoot(int(root.Fd()), name, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("is not a regular file"))
	}
	return os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// openUserFile opens a regular file, or returns nil if there is none. How much is read of it, runtime limits.
func openUserFile(t filetree.Tree, name string) (io.ReadCloser, error) {
	if t == nil {
		return nil, nil
	}
	name, err := filetree.Resolve(t.Lstat, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := t.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case e.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return nil, errors.New("is not a regular file")
	}
	return t.Open(name)
}
