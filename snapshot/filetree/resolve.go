package filetree

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Resolve follows the links of name, the last one too, inside the root of a tree whose files lstat describes, which follows no
// link itself; ".." at the root stays there.
// The path up to a missing component is resolved and the rest kept, with the error for that component, which is
// fs.ErrNotExist. A missing component counts as a directory, so that ".." leads out of it again.
func Resolve(lstat func(name string) (Entry, error), name string) (string, error) {
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
