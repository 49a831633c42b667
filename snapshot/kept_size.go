package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/openat"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Written is how many bytes the regular files have that were written to the draft on top of layers that dir keeps, each file counted
// once: as docker counts, so that directories, and mount points that were made, are none. It may be written to meanwhile. Of a whole
// copy, a file counts unless it has the size and the time of one of the layers; if they are gone, all count.
func (s *Store) Written(ctx context.Context, layers []image.Layer, dir string) (bytes int64, err error) {
	const copied = "root"
	var below *View
	if _, statErr := os.Lstat(filepath.Join(dir, copied)); statErr == nil {
		below, _ = s.View(ctx, layers)
	}
	if below != nil {
		defer func() { err = errors.Join(err, below.Close()) }()
	}
	seen := map[uint64]bool{} // inodes with several names
	err = EachFile(dir, func(in, name string, st *unix.Stat_t) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG || in == "." && name == mountpointsFile || st.Nlink > 1 && seen[st.Ino] {
			return nil
		}
		if below != nil {
			path := filetree.Join(in, name)
			e, err := below.Lstat(strings.TrimPrefix(path, copied+"/"))
			if err == nil && e.Mode&unix.S_IFMT == unix.S_IFREG && e.Size == st.Size && e.ModTime.Unix() == st.Mtim.Sec {
				return nil
			}
		}
		if st.Nlink > 1 {
			seen[st.Ino] = true
		}
		bytes += st.Size
		return nil
	})
	return bytes, err
}

// EachFile calls fn for each file in a directory, which others may be writing to, who may be enemies: nothing outside of it is looked
// at. What is gone when it is looked at is left out, and so is what is deeper than a path can tell, which no layer can have. in is the
// directory that the file is in, relative.
func EachFile(dir string, fn func(in, name string, st *unix.Stat_t) error) error {
	top, err := openDirectory(dir)
	if err != nil {
		return unlessNoDir(err)
	}
	defer top.Close()
	// Directories are opened one at a time, from the top: they can be more, in each other, than a process may have open.
	buf := make([]byte, 32<<10)
	for todo := []struct{ in, name string }{{".", "."}}; len(todo) > 0; {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		path := filetree.Join(next.in, next.name)
		if len(path) > filetree.MaxPath {
			continue
		}
		fd, err := openat.Beneath(int(top.Fd()), path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err == nil {
			err = filetree.ReadNames(fd, buf, func(name []byte, _ uint8) error {
				base := string(name)
				var st unix.Stat_t
				if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
					return unlessGone(err)
				}
				if st.Mode&unix.S_IFMT == unix.S_IFDIR {
					todo = append(todo, struct{ in, name string }{path, base})
				}
				return fn(path, base, &st)
			})
			err = errors.Join(err, closeFD(fd))
		}
		if err := unlessNoDir(err); err != nil {
			return &fs.PathError{Op: "read", Path: filepath.Join(dir, path), Err: err}
		}
	}
	return nil
}

// unlessNoDir is the error, unless it says that there is no directory of that name, or that it is too long.
func unlessNoDir(err error) error {
	for _, gone := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}
