package forge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"syscall"

	"github.com/forge-build/forge/attest/sbom"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// An attestedTree is the tree of an image with the statements about it in its root. They hide files of the same names.
type attestedTree struct {
	snapshot.Tree
	statements map[string][]byte // by the names that BuildKit gives such files
}

// attested adds the statements about an image that are asked for to its tree.
func (h *Home) attested(ctx context.Context, o AttestOptions, img *image.Image, tree snapshot.Tree) (snapshot.Tree, error) {
	if !o.any() {
		return tree, nil
	}
	t := attestedTree{tree, map[string][]byte{}}
	for s, err := range h.statementsAbout(ctx, img.Descriptor.Digest) {
		if err != nil {
			return nil, err
		}
		name, wanted := "provenance.json", o.Provenance != ""
		if s.PredicateType == sbom.PredicateType {
			name, wanted = "sbom.spdx.json", o.SBOM
		}
		if !wanted { // of another build of the same image
			continue
		}
		text, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return nil, err
		}
		t.statements[name] = append(text, '\n')
	}
	return t, nil
}

func (t attestedTree) entry(name string) filetree.Entry {
	return filetree.Entry{Name: name, Mode: syscall.S_IFREG | 0o644, Nlink: 1, Size: int64(len(t.statements[name]))}
}

// Lstat implements [filetree.Tree].
func (t attestedTree) Lstat(name string) (filetree.Entry, error) {
	if t.statements[name] != nil {
		return t.entry(name), nil
	}
	return t.Tree.Lstat(name)
}

// List implements [filetree.Tree].
func (t attestedTree) List(name string, fn func(e *filetree.Entry, sum *filetree.Sum) error) error {
	if name != "." {
		return t.Tree.List(name, fn)
	}
	left := slices.Sorted(maps.Keys(t.statements))
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
	err := t.Tree.List(name, func(e *filetree.Entry, sum *filetree.Sum) error {
		if err := until(func(name string) bool { return name <= e.Name }); err != nil || t.statements[e.Name] != nil {
			return err
		}
		return fn(e, sum)
	})
	if err != nil {
		return err
	}
	return until(func(string) bool { return true })
}

// Open implements [filetree.Tree].
func (t attestedTree) Open(name string) (filetree.File, error) {
	if text := t.statements[name]; text != nil {
		return statementFile{bytes.NewReader(text)}, nil
	}
	return t.Tree.Open(name)
}

// Sum implements [filetree.Tree].
func (t attestedTree) Sum(name string) (filetree.Sum, error) {
	if text := t.statements[name]; text != nil {
		return sha256.Sum256(text), nil
	}
	return t.Tree.Sum(name)
}

// A statementFile is an open file of a statement.
type statementFile struct{ *bytes.Reader }

// Close implements [io.Closer].
func (statementFile) Close() error { return nil }
