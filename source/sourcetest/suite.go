package sourcetest

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"path"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-build/forge/snapshot/filetree"
)

// TestTree is the suite that every tree that a build reads passes. The tree holds what spec lists, as ParseTree has it.
func TestTree(t *testing.T, tree filetree.Tree, spec string) {
	t.Helper()
	check(t, tree.Load(t.Context(), "."))
	if got := Print(t, tree); got != spec {
		t.Errorf("tree is %s, want %s", got, spec)
	}
	if e, err := tree.Lstat("."); err != nil || e.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		t.Errorf("the root is %o, %v", e.Mode, err)
	}
	testMissing(t, tree, "no such file", fs.ErrNotExist)
	for name, f := range ParseTree(t, spec) {
		name = strings.TrimSuffix(name, "/")
		testEntry(t, tree, name)
		switch f.Mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			testMissing(t, tree, name+"/no such file", fs.ErrNotExist)
			if _, err := tree.Open(name); err == nil {
				t.Errorf("the directory %s can be opened as a file", name)
			}
			continue
		case syscall.S_IFREG:
			testContent(t, tree, name, f.Content)
		}
		testMissing(t, tree, name+"/x", syscall.ENOTDIR) // no link is followed
	}
}

// testMissing looks for what is not there.
func testMissing(t *testing.T, tree filetree.Tree, name string, want error) {
	t.Helper()
	if e, err := tree.Lstat(name); !errors.Is(err, want) {
		t.Errorf("Lstat(%q) = %v, %v; want %v", name, e, err, want)
	}
	if _, err := tree.Open(name); err == nil {
		t.Errorf("Open(%q) opens a file that is not there", name)
	}
	if _, err := tree.Sum(t.Context(), name); err == nil {
		t.Errorf("Sum(%q) digests a file that is not there", name)
	}
	if err := tree.List(name, func(*filetree.Entry, *filetree.Sum) error { return nil }); err == nil {
		t.Errorf("List(%q) lists a directory that is not there", name)
	}
}

// testEntry compares what Lstat and List say of a file.
func testEntry(t *testing.T, tree filetree.Tree, name string) {
	t.Helper()
	want, err := tree.Lstat(name)
	check(t, err)
	stop, found := errors.New("stop"), false
	err = tree.List(path.Dir(name), func(e *filetree.Entry, _ *filetree.Sum) error {
		if e.Name != path.Base(name) {
			return nil
		}
		if found = true; !reflect.DeepEqual(*e, want) {
			t.Errorf("%s: List has %v, Lstat %v", name, *e, want)
		}
		return stop
	})
	if !found || !errors.Is(err, stop) {
		t.Errorf("%s: found in its directory: %v; the list ends with %v", name, found, err)
	}
}

// testContent reads a file from its beginning and in the middle, and digests it.
func testContent(t *testing.T, tree filetree.Tree, name, want string) {
	t.Helper()
	f, err := tree.Open(name)
	check(t, err)
	if n := len(want) / 2; n > 0 {
		got := make([]byte, len(want)-n)
		if _, err := f.ReadAt(got, int64(n)); err != nil && err != io.EOF || string(got) != want[n:] {
			t.Errorf("%s: has %q at %d, %v; want %q", name, got, n, err, want[n:])
		}
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != want {
		t.Errorf("%s: is %q, %v; want %q", name, got, err, want)
	}
	check(t, f.Close())
	sum, err := tree.Sum(t.Context(), name)
	check(t, err)
	if sum != sha256.Sum256([]byte(want)) {
		t.Errorf("%s: digest is %x", name, sum)
	}
	check(t, tree.List(path.Dir(name), func(e *filetree.Entry, known *filetree.Sum) error {
		if e.Name == path.Base(name) && (known == nil || *known != sum) {
			t.Errorf("%s: the digest is not remembered", name)
		}
		return nil
	}))
}
