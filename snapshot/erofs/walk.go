package erofs

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// find goes down a path of directories, all of which must be there.
func (b *Builder) find(path string) (int32, error) {
	w := walker{Builder: b, rest: path}
	for w.next() {
		id, ok := b.At(w.dir, w.base)
		if !ok || b.isWhiteout(id) {
			return 0, unix.ENOENT
		}
		if err := w.enter(id); err != nil {
			return 0, err
		}
	}
	return w.dir, nil
}

// ensure goes down a path of directories and makes those that are missing.
func (b *Builder) ensure(path string) (int32, error) {
	w := walker{Builder: b, rest: path}
	for w.next() {
		id, ok := b.At(w.dir, w.base)
		made := indexInode{mode: unix.S_IFDIR | 0o755}
		switch {
		case !ok && strings.HasPrefix(w.base, filetree.WhiteoutPrefix): // by way of a link
			return 0, ErrOddWhiteout
		case !ok:
			made.flags = flagImplied
		case !b.isWhiteout(id): // else it is hidden below and made anew here
			if err := w.enter(id); err != nil {
				return 0, err
			}
			continue
		}
		if err := b.put(w.dir, w.base, made); err != nil {
			return 0, err
		}
		w.dir, _ = b.At(w.dir, w.base)
	}
	return w.dir, nil
}

// isWhiteout reports whether a name says that something below is removed.
func (b *Builder) isWhiteout(id int32) bool {
	return b.whiteout != 0 && b.List[id].File == b.whiteout
}

// A walker goes down a path of directories.
type walker struct {
	*Builder
	dir   int32
	base  string // in dir, to be entered
	rest  string
	links int
}

// next goes on to the next name that has to be looked up.
func (w *walker) next() bool {
	for w.rest != "" {
		switch w.base, w.rest, _ = strings.Cut(w.rest, "/"); w.base {
		case "", ".":
		case "..": // of a link
			w.dir = w.List[w.dir].Parent
		default:
			return true
		}
	}
	return false
}

// enter goes into a directory, or on to where a link leads.
func (w *walker) enter(id int32) error {
	if w.isDir(id) {
		w.dir = id
		return nil
	}
	target := w.link(&w.inodes[w.List[id].File])
	if target == "" || !w.FollowLinks {
		return fmt.Errorf("%s: %w", w.base, errNotDir)
	}
	if w.links++; w.links > filetree.MaxLinks || len(target)+len(w.rest) > 2*filetree.MaxPath {
		return fmt.Errorf("%s: %w", w.base, errLoop)
	}
	if target[0] == '/' {
		w.dir = 0
	}
	w.rest = target + "/" + w.rest
	return nil
}
