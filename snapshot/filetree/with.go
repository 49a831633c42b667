package filetree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"syscall"
)

// A withFiles is a tree with more files in its root.
type withFiles struct {
	Tree
	files map[string][]byte // by name: the content
}

// WithFiles is a tree with more files in its root, by their names, which may be read by all. They hide what has the same names.
func WithFiles(tree Tree, files map[string][]byte) Tree { return withFiles{tree, files} }

func (t withFiles) entry(name string) Entry {
	return Entry{Name: name, Mode: syscall.S_IFREG | 0o644, Nlink: 1, Size: int64(len(t.files[name]))}
}

// Lstat implements [Tree].
func (t withFiles) Lstat(name string) (Entry, error) {
	if t.files[name] != nil {
		return t.entry(name), nil
	}
	return t.Tree.Lstat(name)
}

// List implements [Tree].
func (t withFiles) List(name string, fn func(e *Entry, sum *Sum) error) error {
	if name != "." {
		return t.Tree.List(name, fn)
	}
	left := slices.Sorted(maps.Keys(t.files))
	until := func(next func(name string) bool) error {
		for len(left) > 0 && next(left[0]) {
			e := t.entry(left[0])
			left = left[1:]
			if err := fn(&e, nil); err != nil {
				return err
			}
		}
		return nil
	}
	err := t.Tree.List(name, func(e *Entry, sum *Sum) error {
		if err := until(func(name string) bool { return name <= e.Name }); err != nil || t.files[e.Name] != nil {
			return err
		}
		return fn(e, sum)
	})
	if err != nil {
		return err
	}
	return until(func(string) bool { return true })
}

// Open implements [Tree].
func (t withFiles) Open(name string) (File, error) {
	if text := t.files[name]; text != nil {
		return textFile{bytes.NewReader(text)}, nil
	}
	return t.Tree.Open(name)
}

// Sum implements [Tree].
func (t withFiles) Sum(ctx context.Context, name string) (Sum, error) {
	if text := t.files[name]; text != nil {
		return sha256.Sum256(text), nil
	}
	return t.Tree.Sum(ctx, name)
}

// A textFile is an open file of a text.
type textFile struct{ *bytes.Reader }

// Close implements [io.Closer].
func (textFile) Close() error { return nil }
