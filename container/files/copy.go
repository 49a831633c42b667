package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot"
)

// A Name is a path as a user has written it. That it ends in "/" or "/." means something.
type Name struct {
	Path   string
	Follow bool // what it is a link to is meant, and not the link
}

// A Source is a file or directory to copy, a part of a tree.
type Source struct {
	snapshot.Part
	dir      bool
	Contents bool   // of the directory, and not itself
	shown    string // its path in the container; "" if it is of this machine
}

// A Target is where a copy goes.
type Target struct {
	Place      // links followed
	Exists     bool
	Dir        bool // it is a directory
	assertsDir bool // it is said to be one
}

// To decides, by docker's table, in which directory what is written, and names the source there.
func (s *Source) To(t Target) (dir string, err error) {
	switch {
	case t.Dir:
		if s.Contents {
			s.Name = ""
		}
		return t.at, nil
	case t.Exists && s.dir:
		return "", errors.New("cannot copy directory")
	case t.Exists && t.assertsDir:
		return "", errors.New("not a directory")
	case !s.dir && t.assertsDir:
		return "", errors.New("no such directory")
	}
	s.Name = path.Base(t.at)
	return path.Dir(t.at), nil
}

// isDirectory reports whether it is one, by its mode.
func isDirectory(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFDIR }

// wantsContents reports whether a path means what is in a directory, and not itself.
func wantsContents(name string) bool { return name == "." || strings.HasSuffix(name, "/.") }

// Source finds a file or directory of the container that is to be copied.
func (r *Root) Source(ctx context.Context, n Name) (*Source, error) {
	src := n.Path
	p, err := r.find(ctx, src, n.Follow, src)
	if err != nil {
		return nil, err
	}
	e, err := p.tree.Lstat(p.at)
	if err != nil {
		return nil, r.notFound(src, err)
	}
	s := &Source{
		Part: snapshot.Part{Tree: p.tree, Path: p.at, Name: path.Base(path.Join("/", src))},
		dir:  isDirectory(e.Mode), Contents: wantsContents(src) || path.Join("/", src) == "/", shown: p.Shown(),
	}
	if assertsDir(src) && !s.dir {
		return nil, fmt.Errorf("%s: not a directory", src)
	}
	return s, nil
}

// Target looks where in the container a copy goes.
func (r *Root) Target(ctx context.Context, dst string) (t Target, err error) {
	t.assertsDir = assertsDir(dst)
	if t.Place, err = r.find(ctx, dst, true, path.Dir(path.Join("/", dst))); err != nil {
		return t, err
	}
	e, err := t.tree.Lstat(t.at)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	t.Exists, t.Dir = true, isDirectory(e.Mode)
	if !t.Dir && e.Mode&unix.S_IFMT != unix.S_IFREG {
		return t, fmt.Errorf("destination %q must be a directory or a regular file", r.Container+":"+dst)
	}
	return t, nil
}

// HostSource opens a file or directory of this machine. The file is to be closed.
func HostSource(n Name) (s Source, opened *os.File, err error) {
	src := n.Path
	full, err := filepath.Abs(src)
	if err != nil {
		return s, nil, err
	}
	info, err := os.Lstat(full)
	if err != nil {
		return s, nil, err
	}
	name, at := filepath.Base(full), full
	if n.Follow || assertsDir(src) {
		if at, err = filepath.EvalSymlinks(full); err == nil {
			info, err = os.Lstat(at)
		}
		if err != nil {
			return s, nil, err
		}
	}
	s = Source{Part: snapshot.Part{Path: filepath.Base(at), Name: name}, dir: info.IsDir(), Contents: wantsContents(src) || at == "/"}
	if assertsDir(src) && !s.dir {
		return s, nil, fmt.Errorf("%s: not a directory", src)
	}
	in := filepath.Dir(at)
	if s.dir { // where the directory is may be closed to the caller
		in, s.Path = at, "."
	}
	if opened, err = os.Open(in); err != nil {
		return s, nil, err
	}
	s.Tree = snapshot.OpenLive(opened)
	return s, opened, nil
}

// maxHostLinks is how many links of a destination docker follows.
const maxHostLinks = 10

// HostTarget looks where on this machine a copy goes.
func HostTarget(dst string) (t Target, err error) {
	t.assertsDir = assertsDir(dst)
	if t.at, err = filepath.Abs(dst); err != nil {
		return t, err
	}
	for range maxHostLinks {
		if dir := filepath.Dir(t.at); dir != "/" {
			if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
				return t, fmt.Errorf("invalid output path: directory %q does not exist", dir)
			}
		}
		info, err := os.Lstat(t.at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return t, nil
		case err != nil:
			return t, err
		case info.Mode()&fs.ModeSymlink == 0:
			t.Exists, t.Dir = true, info.IsDir()
			if !t.Dir && !info.Mode().IsRegular() {
				return t, fmt.Errorf("invalid output path: %q must be a directory or a regular file", dst)
			}
			return t, nil
		}
		link, err := os.Readlink(t.at)
		if err != nil {
			return t, err
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(t.at), link)
		}
		t.at = link
	}
	return t, fmt.Errorf("%s: %w", dst, unix.ELOOP)
}
