package forge

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

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/snapshot"
)

// FileCopyOptions say how files are copied between a container and this machine.
type FileCopyOptions struct {
	Owners bool       // keep them; else a file of a container is root's, and one of this machine the caller's
	Follow bool       // copy what the source is a link to
	Events event.Sink // takes warnings; may be nil

	// Of a tar that is unpacked in a container:
	AsUser  bool // everything belongs to the container's user, as its files say who that is
	Replace bool // a file takes the place of a directory with all that is in it, and a directory that of a file; else they are errors
}

// A copySource is a file or directory to copy, a part of a tree.
type copySource struct {
	snapshot.Part
	dir      bool
	contents bool   // of the directory, and not itself
	shown    string // its path in the container; "" if it is of this machine
}

// A copyTarget is where a copy goes.
type copyTarget struct {
	filePlace  // links followed
	exists     bool
	dir        bool // it is a directory
	assertsDir bool // it is said to be one
}

// to decides, by docker's table, in which directory what is written, and names the source there.
func (s *copySource) to(t copyTarget) (dir string, err error) {
	switch {
	case t.dir:
		if s.contents {
			s.Name = ""
		}
		return t.at, nil
	case t.exists && s.dir:
		return "", errors.New("cannot copy directory")
	case t.exists && t.assertsDir:
		return "", errors.New("not a directory")
	case !s.dir && t.assertsDir:
		return "", errors.New("no such directory")
	}
	s.Name = path.Base(t.at)
	return path.Dir(t.at), nil
}

// tarEnd is the size of the end of a tar: what was copied is counted as docker does, who sends it as one.
const tarEnd = 1024

// isDirectory reports whether it is one, by its mode.
func isDirectory(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFDIR }

// wantsContents reports whether a path means what is in a directory, and not itself.
func wantsContents(name string) bool { return name == "." || strings.HasSuffix(name, "/.") }

// CopyTo copies a file or directory of this machine into a container, running or not, and returns how many bytes a tar of it
// has. What already is there is dealt with as docker does. Links in the container never lead out of it.
func (h *Home) CopyTo(ctx context.Context, src, ref, dst string, o FileCopyOptions) (size int64, err error) {
	s, opened, err := hostSource(src, o.Follow)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	s.Root = !o.Owners
	err = h.withRoot(ctx, ref, func(c *containerRoot) (err error) {
		t, err := c.target(ctx, dst)
		if err != nil {
			return err
		}
		if t.at, err = s.to(t); err != nil {
			return err
		}
		dir, err := c.writable(t.filePlace, dst)
		if err != nil {
			return err
		}
		err = snapshot.Place(ctx, &s, dir, snapshot.PlaceOptions{At: t.shown(), Owners: true})
		if err = errors.Join(err, dir.Close()); err != nil {
			return err
		}
		h.containerEvent(c.record, "extract-to-dir")
		return nil
	})
	return s.Size + tarEnd, err
}

// CopyFrom copies a file or directory of a container, running or not, to this machine, and returns how many bytes a tar of it
// has. Unless owners are kept, devices and what gives power over the machine are left out, with a warning.
func (h *Home) CopyFrom(ctx context.Context, ref, src, dst string, o FileCopyOptions) (size int64, err error) {
	t, err := hostTarget(dst)
	if err != nil {
		return 0, err
	}
	err = h.withSource(ctx, ref, src, o.Follow, func(s *copySource) (err error) {
		at, err := s.to(t)
		if err != nil {
			return err
		}
		dir, err := os.Open(at)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, dir.Close()) }()
		plain := snapshot.Plain(s)
		tree := snapshot.Tree(plain)
		if o.Owners {
			tree = s
		}
		err = snapshot.Place(ctx, tree, dir, snapshot.PlaceOptions{At: at, Owners: o.Owners})
		if left := plain.LeftOut(); left != "" {
			o.Events.Send(event.Event{Kind: event.Warning, Text: "left out of the copy: " + left + " (--archive writes them)"})
		}
		size = s.Size + tarEnd
		return err
	})
	return size, err
}

// withSource opens a file or directory of a container for do.
func (h *Home) withSource(ctx context.Context, ref, src string, follow bool, do func(*copySource) error) error {
	return h.withRoot(ctx, ref, func(c *containerRoot) error {
		p, err := c.find(ctx, src, follow, src)
		if err != nil {
			return err
		}
		e, err := p.tree.Lstat(p.at)
		if err != nil {
			return c.notFound(src, err)
		}
		s := &copySource{
			Part: snapshot.Part{Tree: p.tree, Path: p.at, Name: path.Base(path.Join("/", src))},
			dir:  isDirectory(e.Mode), contents: wantsContents(src) || path.Join("/", src) == "/", shown: p.shown(),
		}
		if assertsDir(src) && !s.dir {
			return fmt.Errorf("%s: not a directory", src)
		}
		if err := do(s); err != nil {
			return err
		}
		h.containerEvent(c.record, "archive-path")
		return nil
	})
}

// target looks where in the container a copy goes.
func (c *containerRoot) target(ctx context.Context, dst string) (t copyTarget, err error) {
	t.assertsDir = assertsDir(dst)
	if t.filePlace, err = c.find(ctx, dst, true, path.Dir(path.Join("/", dst))); err != nil {
		return t, err
	}
	e, err := t.tree.Lstat(t.at)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	t.exists, t.dir = true, isDirectory(e.Mode)
	if !t.dir && e.Mode&unix.S_IFMT != unix.S_IFREG {
		return t, fmt.Errorf("destination %q must be a directory or a regular file", c.ref+":"+dst)
	}
	return t, nil
}

// hostSource opens a file or directory of this machine. The file is to be closed.
func hostSource(src string, follow bool) (s copySource, opened *os.File, err error) {
	full, err := filepath.Abs(src)
	if err != nil {
		return s, nil, err
	}
	info, err := os.Lstat(full)
	if err != nil {
		return s, nil, err
	}
	name, at := filepath.Base(full), full
	if follow || assertsDir(src) {
		if at, err = filepath.EvalSymlinks(full); err == nil {
			info, err = os.Lstat(at)
		}
		if err != nil {
			return s, nil, err
		}
	}
	s = copySource{Part: snapshot.Part{Path: filepath.Base(at), Name: name}, dir: info.IsDir(), contents: wantsContents(src) || at == "/"}
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

// hostTarget looks where on this machine a copy goes.
func hostTarget(dst string) (t copyTarget, err error) {
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
			t.exists, t.dir = true, info.IsDir()
			if !t.dir && !info.Mode().IsRegular() {
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
