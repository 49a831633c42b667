package filetree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
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
	var absent string // what was found missing last, with "/"; nothing is in it
	for links := 0; rest != ""; {
		inAbsent := absent != "" && strings.HasPrefix(done+"/", absent)
		if !inAbsent {
			done, rest = descend(lstat, done, rest)
		}
		if len(done) > MaxPath {
			return "", tooLong(done)
		}
		var elem string
		elem, rest, _ = strings.Cut(rest, "/")
		switch elem {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := Join(done, elem)
		if len(next) > MaxPath { // links make a path longer than its name
			return "", tooLong(next)
		}
		if inAbsent {
			done = next
			continue
		}
		e, err := lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			done, missing, absent = next, err, next+"/"
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

// descend goes down rest as far as that leads through directories only. Where it is long it looks at few names, since each look takes as
// long as the name is: who may choose names, as an archive may, could otherwise choose how long it takes. It need not go anywhere.
func descend(lstat func(name string) (Entry, error), done, rest string) (string, string) {
	const long = 16
	if strings.Count(rest, "/") < long {
		return done, rest
	}
	var ends []int // of the elements that are names
	for at := 0; at < len(rest); at++ {
		elem, _, _ := strings.Cut(rest[at:], "/")
		if elem == "" || elem == "." || elem == ".." {
			break
		}
		at += len(elem)
		ends = append(ends, at)
	}
	n := sort.Search(len(ends), func(i int) bool {
		e, err := lstat(Join(done, rest[:ends[i]]))
		return err != nil || e.Mode&unix.S_IFMT != unix.S_IFDIR
	})
	if n == 0 {
		return done, rest
	}
	end := ends[n-1]
	return Join(done, rest[:end]), strings.TrimPrefix(rest[end:], "/")
}
