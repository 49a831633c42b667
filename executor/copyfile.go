package executor

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A fileTree is a tree that holds one file, which came from the build file or from a URL; or none, if that has no name.
type fileTree struct {
	entry snapshot.Entry
	open  func() (io.ReadCloser, error)

	mu  sync.Mutex
	sum *filetree.Sum // nil until it is known; guarded by mu
}

// Lstat implements [snapshot.Tree].
func (t *fileTree) Lstat(name string) (snapshot.Entry, error) {
	switch {
	case name == ".":
		return snapshot.Entry{Name: ".", Mode: syscall.S_IFDIR | 0o755, Nlink: 2}, nil
	case name == t.entry.Name:
		return t.entry, nil
	}
	return snapshot.Entry{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
}

// List implements [snapshot.Tree].
func (t *fileTree) List(name string, fn func(e *snapshot.Entry, sum *filetree.Sum) error) error {
	if name != "." {
		return &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
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

// Load implements [snapshot.Tree].
func (t *fileTree) Load(context.Context, string) error { return nil }

// Open implements [snapshot.Tree].
func (t *fileTree) Open(name string) (io.ReadCloser, error) {
	if name != t.entry.Name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return t.open()
}

// Sum implements [snapshot.Tree].
func (t *fileTree) Sum(name string) (sum filetree.Sum, err error) {
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
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	t.sum = &sum
	return sum, nil
}

// selection is the whole of the tree: its file.
func (t *fileTree) selection() *selection {
	return &selection{tree: t, named: "/" + t.entry.Name, root: t.entry.Name, base: t.entry.Name, entry: t.entry}
}

// heredoc makes a file that the build file holds ready to be copied.
func (w *Local) heredoc(f *planner.File) (*selection, error) {
	if f.Name == "" || f.Name == "." || f.Name == ".." || strings.ContainsAny(f.Name, "/\x00") {
		return nil, fmt.Errorf("heredoc %q: %w", f.Name, &fs.PathError{Op: "mkfile", Path: "/" + f.Name, Err: fs.ErrNotExist})
	}
	mtime := time.Now()
	if w.Epoch != nil {
		mtime = *w.Epoch
	}
	t := &fileTree{
		entry: snapshot.Entry{Name: f.Name, Mode: syscall.S_IFREG | 0o644, Size: int64(len(f.Content)), ModTime: mtime, Nlink: 1},
		open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(f.Content)), nil },
	}
	return t.selection(), nil
}
