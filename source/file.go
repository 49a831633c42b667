package source

import (
	"context"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/forge-build/forge/snapshot/filetree"
)

// A File is a tree that holds one file, such as a heredoc or the content of a URL. Safe for concurrent use.
type File struct {
	entry filetree.Entry
	open  func() (filetree.File, error)

	mu  sync.Mutex    // guards sum
	sum *filetree.Sum // nil until it is known
}

// Entry describes the file.
func (t *File) Entry() filetree.Entry { return t.entry }

// NewFile makes a tree of one regular file. The base name, permissions, size and time are those of e; open is called for
// each reader.
func NewFile(e filetree.Entry, open func() (filetree.File, error)) *File {
	e.Mode, e.Nlink = e.Mode&^syscall.S_IFMT|syscall.S_IFREG, 1
	return &File{entry: e, open: open}
}

// emptyTree is what a build file without a context is built in.
func emptyTree() *File {
	return &File{entry: filetree.Entry{Mode: syscall.S_IFREG, ModTime: time.Unix(0, 0)}}
}

// Lstat implements [filetree.Tree].
func (t *File) Lstat(name string) (filetree.Entry, error) {
	switch {
	case name == ".":
		return filetree.Entry{Name: ".", Mode: syscall.S_IFDIR | 0o755, Nlink: 2}, nil
	case name == t.entry.Name:
		return t.entry, nil
	}
	return filetree.Entry{}, t.missing("lstat", name)
}

// missing says that there is no such file, or no such directory.
func (t *File) missing(op, name string) error {
	if name == t.entry.Name || strings.HasPrefix(name, t.entry.Name+"/") {
		return &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
	}
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// List implements [filetree.Tree].
func (t *File) List(name string, fn func(e *filetree.Entry, sum *filetree.Sum) error) error {
	if name != "." {
		return t.missing("readdir", name)
	}
	if t.entry.Name == "" {
		return nil
	}
	e := t.entry
	t.mu.Lock()
	sum := t.sum
	t.mu.Unlock()
	return fn(&e, sum)
}

// Load implements [filetree.Tree].
func (t *File) Load(context.Context, string) error { return nil }

// Open implements [filetree.Tree].
func (t *File) Open(name string) (filetree.File, error) {
	if name != t.entry.Name {
		return nil, t.missing("open", name)
	}
	return t.open()
}

// Sum implements [filetree.Tree].
func (t *File) Sum(ctx context.Context, name string) (sum filetree.Sum, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sum != nil && name == t.entry.Name {
		return *t.sum, nil
	}
	r, err := t.Open(name)
	if err != nil {
		return sum, err
	}
	defer r.Close() //nolint:errcheck // read only
	if sum, err = filetree.SumOf(ctx, r, make([]byte, min(t.entry.Size+1, hashBuffer))); err != nil {
		return sum, err
	}
	t.sum = &sum
	return sum, nil
}
