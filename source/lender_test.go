package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source/sourcetest"
)

// A lentFileSpec is a file that a fakeLoan lends.
type lentFileSpec struct {
	name, link, text string
	mode             uint32
	size             int64 // instead of that of text; 0 is that
}

// A fakeLoan lends files and counts what is fetched.
type fakeLoan struct {
	files   []lentFileSpec
	at      int
	fetched []string
}

func (l *fakeLoan) Next() (string, filetree.Entry, error) {
	if l.at == len(l.files) {
		return "", filetree.Entry{}, io.EOF
	}
	f := l.files[l.at]
	l.at++
	size := int64(len(f.text))
	if f.size != 0 {
		size = f.size
	}
	return f.name, filetree.Entry{Mode: f.mode, Size: size, Link: f.link, ModTime: time.Unix(1e9, 5), UID: 7, GID: 7}, nil
}

func (l *fakeLoan) Fetch(_ context.Context, n int, w io.Writer) error {
	l.fetched = append(l.fetched, l.files[n].name)
	_, err := io.WriteString(w, l.files[n].text)
	return err
}

func (l *fakeLoan) Close() error { return nil }

// lentOf makes the tree of files. The index of digests is beside the layout.
func lentOf(t testing.TB, dir string, files []lentFileSpec) (*lentTree, *fakeLoan, error) {
	t.Helper()
	staging, err := image.OpenStaging(filepath.Join(dir, "staging"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { staging.Close() })
	layout, err := image.OpenLayout(filepath.Join(dir, "layout"), staging)
	if err != nil {
		t.Fatal(err)
	}
	loan := &fakeLoan{files: files}
	tree := newLentTree(t.Context(), loan, layout, filepath.Join(dir, "index"))
	for n := 0; ; n++ {
		name, e, err := loan.Next()
		if err == io.EOF {
			return tree, loan, nil
		}
		if err := tree.add(n, name, e); err != nil {
			tree.Close()
			return nil, nil, err
		}
	}
}

const (
	lentReg = syscall.S_IFREG | 0o644
	lentDir = syscall.S_IFDIR | 0o755
	lentLnk = syscall.S_IFLNK | 0o777
)

// TestLentTree reads a tree twice: what was read once is remembered by what is said of it.
func TestLentTree(t *testing.T) {
	files := []lentFileSpec{
		{name: "a", mode: lentReg, text: "one"},
		{name: "d", mode: lentDir},
		{name: "d/b", mode: lentReg, text: "two"},
		{name: "d/same", mode: lentReg, link: "d/b"},
		{name: "empty", mode: lentReg},
		{name: "l", mode: lentLnk, link: "d/b"},
	}
	dir := t.TempDir()
	for round, fetched := range []string{"a d/b", ""} {
		tree, loan, err := lentOf(t, dir, files)
		if err != nil {
			t.Fatal(err)
		}
		var listed []string
		err = filetree.Walk(t.Context(), tree, ".", func(name string, e *filetree.Entry, _ *filetree.Sum) error {
			if e != nil {
				listed = append(listed, fmt.Sprintf("%s %o %d:%d %d %s", name, e.Mode, e.UID, e.GID, e.Size, e.Link))
			}
			return nil
		})
		want := ". 40755 0:0 0 \na 100644 0:0 3 \nd 40755 0:0 0 \nd/b 100644 0:0 3 \nd/same 100644 0:0 3 \nempty 100644 0:0 0 \nl 120777 0:0 0 d/b"
		if got := strings.Join(listed, "\n"); err != nil || got != want {
			t.Errorf("files %s, %v", got, err)
		}
		for name, text := range map[string]string{"a": "one", "d/b": "two", "d/same": "two", "empty": ""} {
			sum, err := tree.Sum(t.Context(), name)
			if want := sha256.Sum256([]byte(text)); err != nil || sum != want {
				t.Errorf("digest of %s: %x, %v, want %x", name, sum, err, want)
			}
		}
		if got := strings.Join(slices.Sorted(slices.Values(loan.fetched)), " "); got != fetched {
			t.Errorf("round %d has fetched %q, want %q", round, got, fetched)
		}
		f, err := tree.Open("d/same")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(f); err != nil || string(b) != "two" {
			t.Errorf("content %q, %v", b, err)
		}
		b, same := mustLstat(t, tree, "d/b"), mustLstat(t, tree, "d/same")
		if b.Inode != same.Inode {
			t.Errorf("two names of one file have the inodes %d and %d", b.Inode, same.Inode)
		}
		for name, want := range map[string]error{"none": fs.ErrNotExist, "a/x": syscall.ENOTDIR, "d": nil, "l": nil} {
			if _, err := tree.Lstat(name); !errors.Is(err, want) {
				t.Errorf("lstat %s: %v, want %v", name, err, want)
			}
			if _, err := tree.Open(name); err == nil {
				t.Errorf("%s was opened", name)
			}
		}
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	}
}

func mustLstat(t *testing.T, tree filetree.Tree, name string) filetree.Entry {
	t.Helper()
	e, err := tree.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestLentLinks holds that hard links are what they are in a directory of this machine: one file for a COPY, and in its key.
func TestLentLinks(t *testing.T) {
	root := sourcetest.Write(t, "a =one #1; b =two; c =one #1; d/; d/e =one #1")
	local, err := OpenDir(root, nil, "")
	must(t, err)
	defer local.Close() //nolint:errcheck
	files := []lentFileSpec{
		{name: "a", mode: lentReg, text: "one"},
		{name: "b", mode: lentReg, text: "two"},
		{name: "c", mode: lentReg, link: "a"},
		{name: "d", mode: lentDir},
		{name: "d/e", mode: lentReg, link: "c"},
	}
	lent, _, err := lentOf(t, t.TempDir(), files)
	must(t, err)
	defer lent.Close() //nolint:errcheck
	digest := func(tree filetree.Tree) string {
		found, err := Select(t.Context(), tree, Query{Path: "/"})
		must(t, err)
		sums, err := found[0].digests(t.Context())
		must(t, err)
		return fmt.Sprint(sums)
	}
	if got, want := digest(lent), digest(local); got != want {
		t.Errorf("digests of a lent directory %s, of one of this machine %s", got, want)
	}
	for name, links := range map[string]bool{"a": true, "b": false, "c": true, "d/e": true} {
		if e := mustLstat(t, lent, name); e.Nlink > 1 != links {
			t.Errorf("%s has %d names", name, e.Nlink)
		}
	}
}

// TestLentLies is about clients that say what cannot be, or send something else.
func TestLentLies(t *testing.T) {
	for want, files := range map[string][]lentFileSpec{
		"a file with the name \"../x\"": {{name: "../x", mode: lentReg}},
		"a file with the name \"/x\"":   {{name: "/x", mode: lentReg}},
		"a file with the name \".\"":    {{name: ".", mode: lentDir}},
		"a file with the name \"a//b\"": {{name: "a//b", mode: lentReg}},
		"\"a/b\" before its directory":  {{name: "a/b", mode: lentReg}},
		"\"f/b\" before its directory":  {{name: "f", mode: lentReg}, {name: "f/b", mode: lentReg}},
		"\"a\" twice":                   {{name: "a", mode: lentReg}, {name: "a", mode: lentReg}},
		"\"a\" after what follows it":   {{name: "b", mode: lentReg}, {name: "a", mode: lentReg}},
		"another name of \"none\"":      {{name: "a", mode: lentReg, link: "none"}},
		"size of -1 bytes":              {{name: "a", mode: lentReg, size: -1}},
		"a name of 5001 bytes":          {{name: "a", mode: lentDir}, {name: strings.Repeat("a/", 2500) + "b", mode: lentReg}},
		"a name of 256 bytes":           {{name: strings.Repeat("a", 256), mode: lentReg}},
		"a name with a zero byte":       {{name: "a\x00", mode: lentReg}},
		"with a link of 5000 bytes":     {{name: "a", mode: lentLnk, link: strings.Repeat("a", 5000)}},
	} {
		if _, _, err := lentOf(t, t.TempDir(), files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, size := range []int64{2, 4} {
		tree, _, err := lentOf(t, t.TempDir(), []lentFileSpec{{name: "a", mode: lentReg, text: "one", size: size}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tree.Sum(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "changed while the build read it") {
			t.Errorf("of a file of 3 bytes that is said to have %d: %v", size, err)
		}
		tree.Close()
	}
}

// Lend makes a loan a lender of what it lends.
func (l *fakeLoan) Lend(context.Context, string, Filter) (Loan, error) { return l, nil }

// Key implements [Lender].
func (l *fakeLoan) Key(string) string { return "" }

// TestLentTooLarge holds that a build file or an ignore file that is too large is not fetched.
func TestLentTooLarge(t *testing.T) {
	for _, name := range []string{"Dockerfile", "dockerfile", "Dockerfile.dockerignore", ".dockerignore"} {
		_, layout := testStore(t)
		loan := &fakeLoan{files: []lentFileSpec{{name: name, mode: lentReg, size: maxBuildFile + 1}}}
		s := &Source{spec: Spec{Context: LentPrefix + "d", File: LentPrefix + "d/Dockerfile", Lender: loan, Store: Store{Layout: layout}}}
		var err error
		if name == ".dockerignore" {
			_, err = s.lentIgnore(t.Context(), "d", nil)
		} else {
			_, err = s.lentBuildFile(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), name+": larger than") || len(loan.fetched) > 0 {
			t.Errorf("%v, and %q was fetched, want that %s is too large", err, loan.fetched, name)
		}
	}
}

// TestLentGuard holds that what a client sends is written until the build is cancelled, and not to a file system that is about to be full.
func TestLentGuard(t *testing.T) {
	why := errors.New("the user has had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	tree, _, err := lentOf(t, t.TempDir(), []lentFileSpec{{name: "a", mode: lentReg, text: "one"}})
	must(t, err)
	tree.ctx = ctx
	if _, err := tree.Open("a"); !errors.Is(err, why) {
		t.Errorf("cancelled: %v, want %v", err, why)
	}
	must(t, tree.Close())

	tree, loan, err := lentOf(t, t.TempDir(), []lentFileSpec{{name: "a", mode: lentReg, size: 1 << 62}, {name: "b", mode: lentReg, size: 1 << 62}})
	must(t, err)
	for _, name := range []string{"a", "b"} {
		if _, err := tree.Open(name); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
	if len(loan.fetched) > 1 {
		t.Errorf("%q were fetched, whose sizes have no sum", loan.fetched)
	}
	must(t, tree.Close())

	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	var files []lentFileSpec
	for i := range 20 {
		files = append(files, lentFileSpec{name: string(rune('a' + i)), mode: lentReg, text: strings.Repeat("x", 8<<20)})
	}
	dir := t.TempDir()
	tree, loan, err = lentOf(t, dir, files)
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		if err := errors.Join(syscall.Unshare(syscall.CLONE_FS|syscall.CLONE_NEWNS), syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")); err != nil {
			t.Log(err)
			return
		}
		if err := syscall.Mount("none", filepath.Join(dir, "layout"), "tmpfs", 0, "size=1m"); err != nil { // who has less than 1 GiB is full
			t.Error(err)
			return
		}
		var err error
		for i := 0; i < len(files) && err == nil; i++ {
			_, err = tree.Open(files[i].name)
		}
		if !errors.Is(err, image.ErrFull) || len(loan.fetched) != 7 {
			t.Errorf("%v after %d files of 8 MiB, want %v before 64 MiB are full", err, len(loan.fetched), image.ErrFull)
		}
	}()
	<-done
	must(t, tree.Close())
}

// FuzzLent lends any files, and reads what is taken of them.
func FuzzLent(f *testing.F) {
	f.Add([]byte("a\x00d\x01d/b\x00d/l\x02"))
	f.Add([]byte("../x\x00a/../b\x00"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		var files []lentFileSpec
		for len(data) > 0 && len(files) < 100 {
			i := bytes.IndexFunc(data, func(r rune) bool { return r < 4 })
			if i < 0 {
				break
			}
			s := lentFileSpec{name: string(data[:i]), text: string(data[:i]), mode: []uint32{lentReg, lentDir, lentLnk, lentReg}[data[i]&3]}
			if data[i] >= 2 {
				s.link = "a"
			}
			files, data = append(files, s), data[i+1:]
		}
		tree, _, err := lentOf(t, dir, files)
		if err != nil {
			return
		}
		defer tree.Close()
		err = filetree.Walk(t.Context(), tree, ".", func(name string, e *filetree.Entry, _ *filetree.Sum) error {
			if e == nil {
				return nil
			}
			if !filepath.IsLocal(name) {
				t.Errorf("the tree has %q", name)
			}
			if _, err := tree.Lstat(name); err != nil {
				t.Errorf("%q is listed, and not there: %v", name, err)
			}
			if e.Mode&syscall.S_IFMT == syscall.S_IFREG {
				if _, err := tree.Sum(t.Context(), name); err != nil {
					t.Errorf("digest of %q: %v", name, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
