// Package sourcetest helps to test what reads trees of files: lists of files as text, archives, repositories.
package sourcetest

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// ParseTree reads a list of files, parted by "; ":
//
//	dir/            [MODE] [UID:GID]
//	file =CONTENT   [MODE] [UID:GID] [NAME:VALUE of an xattr] [#N: hard link of all that have this number]
//	link ->TARGET   [UID:GID]
//	fifo |
//	dev  cMAJOR,MINOR
//
// What is left out is 755, 644 and 0:0. The root and "dir/" for directories on the way may be left out.
func ParseTree(t testing.TB, spec string) map[string]Node {
	t.Helper()
	files := make(map[string]Node)
	inodes := make(map[string]uint64)
	for _, line := range strings.Split(spec, "; ") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		name, isDir := strings.CutSuffix(fields[0], "/")
		f := Node{Entry: filetree.Entry{Mode: syscall.S_IFREG | 0o644, ModTime: Time, Nlink: 1}}
		if isDir {
			f.Mode = syscall.S_IFDIR | 0o755
		}
		for _, field := range fields[1:] {
			switch {
			case strings.HasPrefix(field, "->"):
				f.Mode, f.Link = syscall.S_IFLNK|0o777, field[2:]
			case field[0] == '=':
				f.Content = field[1:]
				f.Size = int64(len(f.Content))
			case field[0] == '#':
				if inodes[field] == 0 {
					inodes[field] = uint64(len(inodes) + 1)
				}
				f.Inode, f.Nlink = inodes[field], 2
			case field == "|":
				f.Mode = syscall.S_IFIFO | 0o644
			case field[0] == 'c':
				var major, minor int64
				_, _ = fmt.Sscanf(field, "c%d,%d", &major, &minor)
				f.Mode, f.Rdev = syscall.S_IFCHR|0o644, unix.Mkdev(uint32(major), uint32(minor))
			case strings.Contains(field, "user.") || strings.Contains(field, "security."):
				k, v, _ := strings.Cut(field, ":")
				f.Xattrs = map[string]string{k: v}
			case strings.Contains(field, ":"):
				_, _ = fmt.Sscanf(field, "%d:%d", &f.UID, &f.GID)
			default:
				mode, err := strconv.ParseUint(field, 8, 32)
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				f.Mode = f.Mode&syscall.S_IFMT | uint32(mode)
			}
		}
		files[name] = f
	}
	return files
}

// A Node is one file of a list.
type Node struct {
	filetree.Entry
	Content string
}

// Time is when all files of lists were changed.
var Time = time.Unix(1_600_000_000, 0)

// Print is the inverse of ParseTree.
func Print(t testing.TB, tree filetree.Tree) string {
	t.Helper()
	var lines []string
	links, numbers := map[uint64]int{}, map[uint64]int{}
	var count, walk func(dir string)
	each := func(dir string, fn func(name string, e filetree.Entry)) {
		entries, err := filetree.ReadDir(tree, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			fn(path.Join(dir, e.Name), e)
		}
	}
	count = func(dir string) {
		each(dir, func(name string, e filetree.Entry) {
			if e.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				count(name)
			} else {
				links[e.Inode]++
			}
		})
	}
	count(".")
	walk = func(dir string) {
		each(dir, func(name string, e filetree.Entry) {
			lines = append(lines, printEntry(t, tree, name, &e, links, numbers))
			if e.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				walk(name)
			}
		})
	}
	walk(".")
	return strings.Join(lines, "; ")
}

func printEntry(t testing.TB, tree filetree.Tree, name string, e *filetree.Entry, links, numbers map[uint64]int) string {
	t.Helper()
	b := strings.Builder{}
	b.WriteString(name)
	usual := uint32(0o644)
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		b.WriteString("/")
		usual = 0o755
	case syscall.S_IFLNK:
		b.WriteString(" ->" + e.Link)
		usual = 0o777
	case syscall.S_IFIFO:
		b.WriteString(" |")
	case syscall.S_IFCHR:
		fmt.Fprintf(&b, " c%d,%d", e.Rdev>>8&0xfff, e.Rdev&0xff)
	case syscall.S_IFREG:
		r, err := tree.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		b.WriteString(" =" + string(content))
	}
	if mode := e.Mode & 0o7777; mode != usual {
		fmt.Fprintf(&b, " %o", mode)
	}
	if e.UID != 0 || e.GID != 0 {
		fmt.Fprintf(&b, " %d:%d", e.UID, e.GID)
	}
	var xattrs []string
	for k, v := range e.Xattrs {
		xattrs = append(xattrs, " "+k+":"+v)
	}
	sort.Strings(xattrs)
	b.WriteString(strings.Join(xattrs, ""))
	if !(e.Mode&syscall.S_IFMT == syscall.S_IFDIR) && links[e.Inode] > 1 {
		if numbers[e.Inode] == 0 {
			numbers[e.Inode] = len(numbers) + 1
		}
		fmt.Fprintf(&b, " #%d", numbers[e.Inode])
	}
	return b.String()
}

// Names are the names of a list, sorted.
func Names(files map[string]Node) []string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Write makes a directory of a list of files.
func Write(t testing.TB, spec string) string {
	t.Helper()
	root := t.TempDir()
	files := ParseTree(t, spec)
	first := make(map[uint64]string)
	for _, name := range Names(files) {
		f, p := files[name], filepath.Join(root, name)
		check(t, os.MkdirAll(filepath.Dir(p), 0o755))
		switch {
		case f.Mode&syscall.S_IFMT == syscall.S_IFDIR:
			check(t, os.MkdirAll(p, 0o755))
		case f.Link != "":
			check(t, os.Symlink(f.Link, p))
			continue
		case f.Mode&syscall.S_IFMT == syscall.S_IFIFO:
			check(t, syscall.Mkfifo(p, 0o644))
		case f.Inode != 0 && first[f.Inode] != "":
			check(t, os.Link(first[f.Inode], p))
		default:
			check(t, os.WriteFile(p, []byte(f.Content), 0o644))
			if f.Inode != 0 {
				first[f.Inode] = p
			}
		}
		check(t, syscall.Chmod(p, f.Mode&0o7777))
		check(t, os.Chtimes(p, Time, Time))
	}
	return root
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
