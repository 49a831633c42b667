package filetree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Resolve follows the links of name, the last one too, inside the root of a tree whose files lstat describes, which follows no
// link itself; ".." at the root stays there.
// The path up to a missing component is resolved and the rest kept, with the error for that component, which is
// fs.ErrNotExist. A missing component counts as a directory, so that ".." leads out of it again. Neither name nor what it comes
// to may be longer than MaxPath, since a tree is asked for each component.
func Resolve(lstat func(name string) (Entry, error), name string) (string, error) {
	if len(name) > MaxPath {
		return "", tooLong(name)
	}
	done, rest := ".", name
	var missing error
	for links := 0; rest != ""; {
		var elem string
		elem, rest, _ = strings.Cut(rest, "/")
		switch elem {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, elem)
		if len(next) > MaxPath { // links make a path longer than its name
			return "", tooLong(next)
		}
		e, err := lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			done, missing = next, err
			continue
		case err != nil:
			return "", err
		}
		if e.Mode&unix.S_IFMT != unix.S_IFLNK {
			done = next
			continue
		}
		if links++; links > MaxLinks {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: unix.ELOOP}
		}
		if strings.HasPrefix(e.Link, "/") {
			done = "."
		}
		rest = e.Link + "/" + rest
	}
	if missing != nil {
		_, missing = lstat(done)
	}
	return done, missing
}

// tooLong names a path by how it begins.
func tooLong(name string) error {
	return &fs.PathError{Op: "resolve", Path: fmt.Sprintf("%.64s…", name), Err: unix.ENAMETOOLONG}
}
