package container

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot/filetree"
)

// LookupUser looks up USER in the files of a tree, without mounting it and without running anything of it. A nil tree has
// no files. A name that is not found is a runtime.UnknownUserError.
func LookupUser(files filetree.Tree, user string) (runtime.User, error) {
	var readers [2]io.Reader
	for i, name := range []string{"etc/passwd", "etc/group"} {
		f, err := openUserFile(files, name)
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
