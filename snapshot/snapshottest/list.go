package snapshottest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot"

	"github.com/forge-build/forge/snapshot/filetree"
)

// A listing describes a tree, a line a file, so that two can be compared: path, type and mode, owner, size or device,
// time, attributes, the first name of a file that has several, link target and a digest of the content. The root's time and
// sockets are left out.
type listing struct {
	lines []string
	first map[uint64]string
}

// ListTree lists a tree.
func ListTree(t testing.TB, tree snapshot.Tree) []string {
	t.Helper()
	l := listing{first: map[uint64]string{}}
	root, err := tree.Lstat(".")
	if err == nil {
		err = l.tree(tree, ".", root)
	}
	if err != nil {
		t.Fatalf("list tree: %v", err)
	}
	return l.lines
}

func (l *listing) tree(tree snapshot.Tree, path string, e snapshot.Entry) error {
	sum := ""
	if e.Mode&unix.S_IFMT == unix.S_IFREG {
		r, err := tree.Open(path)
		if err != nil {
			return err
		}
		if sum, err = digestOf(r); err != nil {
			return err
		}
	}
	l.add(path, e, sum)
	if e.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	kids, err := filetree.ReadDir(tree, path)
	if err != nil {
		return err
	}
	for _, kid := range kids {
		if err := l.tree(tree, filetree.Join(path, kid.Name), kid); err != nil {
			return err
		}
	}
	return nil
}

// ListDir lists a directory of this machine.
func ListDir(t testing.TB, root string) []string {
	t.Helper()
	l := listing{first: map[uint64]string{}}
	if err := l.dir(root, "."); err != nil {
		t.Fatalf("list directory: %v", err)
	}
	return l.lines
}

func (l *listing) dir(root, path string) error {
	full := root + "/" + path
	e, err := lstat(full)
	if err != nil {
		return err
	}
	sum := ""
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFREG:
		f, err := os.Open(full)
		if err != nil {
			return err
		}
		if sum, err = digestOf(f); err != nil {
			return err
		}
	}
	l.add(path, e, sum)
	if e.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	f, err := os.Open(full)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := l.dir(root, filetree.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

func lstat(path string) (snapshot.Entry, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return snapshot.Entry{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	e := snapshot.Entry{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size, ModTime: time.Unix(st.Mtim.Unix()),
		Rdev: st.Rdev, Nlink: uint32(st.Nlink), Inode: st.Ino,
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		e.Link, err = os.Readlink(path)
	case unix.S_IFREG, unix.S_IFDIR:
		e.Xattrs, err = xattrs(path)
	}
	return e, err
}

func xattrs(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, err
		}
		m[name] = string(value[:n])
	}
	return m, nil
}

func (l *listing) add(path string, e snapshot.Entry, sum string) {
	kind := e.Mode & unix.S_IFMT
	if kind == unix.S_IFCHR && e.Rdev == 0 {
		l.lines = append(l.lines, fmt.Sprintf("%q is deleted", path)) // as overlayfs says it
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%q %06o %d:%d", path, e.Mode, e.UID, e.GID)
	switch kind {
	case unix.S_IFREG:
		fmt.Fprintf(&b, " %d bytes %s", e.Size, sum)
	case unix.S_IFCHR, unix.S_IFBLK:
		fmt.Fprintf(&b, " device %d:%d", unix.Major(e.Rdev), unix.Minor(e.Rdev))
	case unix.S_IFLNK:
		fmt.Fprintf(&b, " -> %q", e.Link)
	}
	if path != "." {
		fmt.Fprintf(&b, " %d.%09d", e.ModTime.Unix(), e.ModTime.Nanosecond())
	}
	names := make([]string, 0, len(e.Xattrs))
	for name := range e.Xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, " %s=%q", name, e.Xattrs[name])
	}
	if kind != unix.S_IFDIR && e.Nlink > 1 {
		if first, ok := l.first[e.Inode]; ok {
			fmt.Fprintf(&b, " is %q", first)
		} else {
			l.first[e.Inode] = path
		}
	}
	l.lines = append(l.lines, b.String())
}

func digestOf(r io.ReadCloser) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)[:6]), errors.Join(err, r.Close())
}

// Compare fails the test with the lines that two listings do not share.
func Compare(t testing.TB, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	var b strings.Builder
	for _, line := range want {
		if !slices.Contains(got, line) {
			fmt.Fprintf(&b, "\n  want %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			fmt.Fprintf(&b, "\n  got  %s", line)
		}
	}
	t.Errorf("%s differs:%s", what, b.String())
}
