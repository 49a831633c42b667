package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// makeDir makes files: "dir/" a directory, "name=content" a file, "name->target" a link, "name|" a fifo.
func makeDir(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range files {
		if dir, ok := strings.CutSuffix(f, "/"); ok {
			must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
			continue
		}
		if name, target, ok := strings.Cut(f, "->"); ok {
			must(t, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755))
			must(t, os.Symlink(target, filepath.Join(root, name)))
			continue
		}
		if name, ok := strings.CutSuffix(f, "|"); ok {
			must(t, unix.Mkfifo(filepath.Join(root, name), 0o644))
			continue
		}
		name, content, _ := strings.Cut(f, "=")
		must(t, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openDir(t *testing.T, root string, ignore []string, index string) *Dir {
	t.Helper()
	d, err := OpenDir(root, ignore, index)
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// names lists all of d, directories with a trailing slash.
func names(t *testing.T, d *Dir) []string {
	t.Helper()
	var all []string
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := filetree.ReadDir(d, dir)
		must(t, err)
		for _, e := range entries {
			name := filetree.Join(dir, e.Name)
			if e.Mode&unix.S_IFMT == unix.S_IFDIR {
				all = append(all, name+"/")
				walk(name)
				continue
			}
			all = append(all, name)
		}
	}
	walk(".")
	return all
}

func TestDirIgnore(t *testing.T) {
	root := makeDir(t, "a=", "b.log=", "sub/b.log=", "sub/keep.log=", "sub/deep/x=", "sub/deep/y=", "other/z=", "n/m/o=", "(p)+=", "link->sub")
	for _, test := range []struct {
		ignore []string
		want   string
	}{
		{nil, "(p)+ a b.log link n/ n/m/ n/m/o other/ other/z sub/ sub/b.log sub/deep/ sub/deep/x sub/deep/y sub/keep.log"},
		{[]string{"*"}, ""},
		{[]string{"*.log"}, "(p)+ a link n/ n/m/ n/m/o other/ other/z sub/ sub/b.log sub/deep/ sub/deep/x sub/deep/y sub/keep.log"},
		{[]string{"**/*.log", "!sub/keep.log"}, "(p)+ a link n/ n/m/ n/m/o other/ other/z sub/ sub/deep/ sub/deep/x sub/deep/y sub/keep.log"},
		{[]string{"*", "!sub/deep/x"}, "sub/ sub/deep/ sub/deep/x"},
		{[]string{"*", "!sub/deep"}, "sub/ sub/deep/ sub/deep/x sub/deep/y"},
		{[]string{"*", "!**/z"}, "other/ other/z"},
		{[]string{"*", "!*/m"}, "n/ n/m/ n/m/o"},
		{[]string{"*", "!sub/nothing"}, ""},
		{[]string{"sub", "!sub", "sub/deep"}, "(p)+ a b.log link n/ n/m/ n/m/o other/ other/z sub/ sub/b.log sub/keep.log"},
		{[]string{"!sub/deep/x", "sub"}, "(p)+ a b.log link n/ n/m/ n/m/o other/ other/z"},
		{[]string{"(p)+", "n", "other", "sub", "link/deep"}, "a b.log link"},
	} {
		d := openDir(t, root, test.ignore, "")
		if got := strings.Join(names(t, d), " "); got != test.want {
			t.Errorf("ignore %q\n got %s\nwant %s", test.ignore, got, test.want)
		}
	}
	if _, err := OpenDir(root, []string{"!"}, ""); err == nil {
		t.Error("a lone ! is accepted")
	}
}

// TestDirIgnorePrunes holds that an ignored directory is not entered: one that cannot be read would fail.
func TestDirIgnorePrunes(t *testing.T) {
	for _, test := range []struct {
		ignore []string
		enter  bool
	}{
		{[]string{"hidden"}, false},
		{[]string{"*", "!a"}, false},
		{[]string{"*", "!hid*/x"}, true},
		{[]string{"*", "!**/x"}, true},
		{[]string{"*", "!a/**"}, false},
	} {
		d := openDir(t, makeDir(t, "a=", "hidden/x="), test.ignore, "")
		_, err := filetree.ReadDir(d, ".")
		must(t, err)
		ig, err := newPatterns(test.ignore)
		must(t, err)
		if got := ig.mayReopen("hidden"); got != test.enter {
			t.Errorf("ignore %q: hidden directory entered: %v, want %v", test.ignore, got, test.enter)
		}
	}
}

func TestDirEntries(t *testing.T) {
	root := makeDir(t, "file=content", "dir/x=", "link->dir/x", "fifo|", "bad\xffname=1")
	must(t, os.Chmod(filepath.Join(root, "file"), 0o4755|os.ModeSetuid))
	must(t, os.Link(filepath.Join(root, "file"), filepath.Join(root, "dir/hard")))
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(sock) //nolint:errcheck
	must(t, os.Chdir(root))
	must(t, unix.Bind(sock, &unix.SockaddrUnix{Name: "sock"}))
	must(t, os.Chdir("/"))
	when := time.Unix(1234567890, 123456789)
	must(t, os.Chtimes(filepath.Join(root, "file"), when, when))
	_ = unix.Setxattr(filepath.Join(root, "file"), "user.x", []byte("y"), 0)

	d := openDir(t, root, nil, "")
	for _, test := range []struct {
		name string
		want filetree.Entry
	}{
		{"file", filetree.Entry{Name: "file", Mode: unix.S_IFREG | 0o4755, Size: 7, Nlink: 2}},
		{"dir/hard", filetree.Entry{Name: "hard", Mode: unix.S_IFREG | 0o4755, Size: 7, Nlink: 2}},
		{"dir", filetree.Entry{Name: "dir", Mode: unix.S_IFDIR | 0o755, Nlink: 2}},
		{".", filetree.Entry{Name: ".", Mode: unix.S_IFDIR | 0o755, Nlink: 3}},
		{"link", filetree.Entry{Name: "link", Mode: unix.S_IFLNK | 0o777, Size: 5, Link: "dir/x", Nlink: 1}},
		{"fifo", filetree.Entry{Name: "fifo", Mode: unix.S_IFIFO | 0o644, Nlink: 1}},
		{"sock", filetree.Entry{Name: "sock", Mode: unix.S_IFREG | 0o755, Nlink: 1}},
		{"bad\xffname", filetree.Entry{Name: "bad\xffname", Mode: unix.S_IFREG | 0o644, Size: 1, Nlink: 1}},
	} {
		got, err := d.Lstat(test.name)
		must(t, err)
		if strings.HasSuffix(test.name, "file") && !got.ModTime.Equal(when) {
			t.Errorf("%s: mtime %v, want %v", test.name, got.ModTime, when)
		}
		got.ModTime, got.Inode = time.Time{}, 0
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("Lstat(%q)\n got %v\nwant %v", test.name, got, test.want)
		}
	}
	a, _ := d.Lstat("file")
	b, _ := d.Lstat("dir/hard")
	if a.Inode != b.Inode {
		t.Errorf("hard links have inodes %d and %d", a.Inode, b.Inode)
	}
	for name, want := range map[string]string{"file": "content", "sock": ""} {
		if got := readAll(t, d, name); got != want {
			t.Errorf("content of %s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"fifo", "link", "dir"} {
		if r, err := d.Open(name); err == nil {
			_ = r.Close()
			t.Errorf("%s was opened", name)
		}
	}
	for name, want := range map[string]error{"none": fs.ErrNotExist, "none/x": fs.ErrNotExist, "file/x": unix.ENOTDIR, "link/x": unix.ENOTDIR} {
		if _, err := d.Lstat(name); !errors.Is(err, want) {
			t.Errorf("Lstat(%q): %v, want %v", name, err, want)
		}
	}
}

func readAll(t *testing.T, d *Dir, name string) string {
	t.Helper()
	r, err := d.Open(name)
	must(t, err)
	b, err := io.ReadAll(r)
	must(t, err)
	must(t, r.Close())
	return string(b)
}

func TestDirResolve(t *testing.T) {
	d := openDir(t, makeDir(t, "a/b/file=", "abs->/a/b", "rel->a/b", "up->../../../a", "a/out->../../etc/passwd", "loop->loop",
		"one->two", "two->a", "a/self->.", "dang->a/none/x"), nil, "")
	for _, test := range []struct {
		name string
		want string
		err  error
	}{
		{".", ".", nil},
		{"/", ".", nil},
		{"a/b/file", "a/b/file", nil},
		{"/a//b/./file", "a/b/file", nil},
		{"abs/../b/file", "a/b/file", nil},
		{"abs", "a/b", nil},
		{"rel/file", "a/b/file", nil},
		{"up/b", "a/b", nil},
		{"a/out", "etc/passwd", fs.ErrNotExist},
		{"loop", "", unix.ELOOP},
		{"one/self/self/b", "a/b", nil},
		{"../../a/../a/b", "a/b", nil},
		{"none/x/y", "none/x/y", fs.ErrNotExist},
		{"none/../a/b", "a/b", nil},
		{"none/../../rel/new", "a/b/new", fs.ErrNotExist},
		{"dang", "a/none/x", fs.ErrNotExist},
		{"a/b/file/x", "", unix.ENOTDIR},
	} {
		got, err := filetree.Resolve(d.Lstat, test.name)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("Resolve(%q) = %q, %v, want %q, %v", test.name, got, err, test.want, test.err)
		}
	}
}

// TestDirLinkSwap holds that a directory which becomes a link after the walk leads nowhere.
func TestDirLinkSwap(t *testing.T) {
	root, outside := makeDir(t, "dir/file=inside"), makeDir(t, "file=secret")
	d := openDir(t, root, nil, "")
	names(t, d)
	must(t, os.RemoveAll(filepath.Join(root, "dir")))
	must(t, os.Symlink(outside, filepath.Join(root, "dir")))
	if r, err := d.Open("dir/file"); err == nil {
		b, _ := io.ReadAll(r)
		t.Fatalf("read %q through a link that leads out", b)
	}
}

func TestDirChanged(t *testing.T) {
	root := makeDir(t, "grows=1", "replaced=1", "same=1")
	d := openDir(t, root, nil, "")
	names(t, d)
	must(t, os.WriteFile(filepath.Join(root, "grows"), []byte("12"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "new"), []byte("2"), 0o644))
	must(t, os.Rename(filepath.Join(root, "new"), filepath.Join(root, "replaced")))
	for _, name := range []string{"grows", "replaced"} {
		if _, err := d.Open(name); !errors.Is(err, errChanged) {
			t.Errorf("Open(%s): %v, want %v", name, err, errChanged)
		}
		if _, err := d.Sum(t.Context(), name); !errors.Is(err, errChanged) {
			t.Errorf("Digest(%s): %v, want %v", name, err, errChanged)
		}
	}
	r, err := d.Open("same")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "same"), []byte("2222"), 0o644))
	if b, err := io.ReadAll(r); !errors.Is(err, errChanged) {
		t.Errorf("a file that changed while it was read gave %q, %v", b, err)
	}
	must(t, r.Close())
}

func TestDirDigestsAreRemembered(t *testing.T) {
	root := makeDir(t, "a=one", "b=two", "sub/c=three")
	index := filepath.Join(t.TempDir(), "contexts", "index")
	old := time.Now().Add(-time.Hour)
	count := func(d *Dir) (known int) {
		must(t, d.Load(context.Background(), "."))
		for _, name := range []string{"a", "b", "sub/c"} {
			f, _, err := d.find("", name)
			must(t, err)
			if sum := d.known(f); sum != nil {
				known++
				if want := digest.FromString(readAll(t, d, name)); digest.NewDigestFromBytes(digest.SHA256, sum[:]) != want {
					t.Errorf("%s: digest %x, want %s", name, *sum, want)
				}
			}
		}
		return known
	}
	const later, atOnce = time.Hour, 10 * time.Millisecond // after the last change
	pass := func(what string, after time.Duration, want int) {
		t.Helper()
		d, err := OpenDir(root, nil, index)
		must(t, err)
		if got := count(d); got != want {
			t.Errorf("%s: %d digests known, want %d", what, got, want)
		}
		f, _, err := d.find("", "b")
		must(t, err)
		d.now = func() time.Time { return time.Unix(0, f.ctime).Add(after) }
		must(t, filetree.Hash(context.Background(), d, []string{"a", "b", "sub/c"}))
		if got := count(d); got != 3 {
			t.Errorf("%s: %d digests known after hashing, want 3", what, got)
		}
		must(t, d.Close())
	}
	pass("nothing is remembered yet", later, 0)
	pass("unchanged", later, 3)
	must(t, os.Rename(filepath.Join(root, "a"), filepath.Join(root, "a2")))
	must(t, os.Rename(filepath.Join(root, "a2"), filepath.Join(root, "a")))
	pass("ctime changed by renaming", later, 2)

	// Same size and same mtime, other content: only ctime tells.
	must(t, os.Chtimes(filepath.Join(root, "b"), old, old))
	pass("touched", later, 2)
	for range 3 { // a clock that had not ticked would give the ctime that is remembered
		time.Sleep(10 * time.Millisecond)
		must(t, os.WriteFile(filepath.Join(root, "b"), []byte("TWO"), 0o644))
		must(t, os.Chtimes(filepath.Join(root, "b"), old, old))
	}
	pass("rewritten with the old mtime", atOnce, 2)
	pass("too young to have been remembered", atOnce, 2)
	pass("still not remembered, but now it will be", later, 2)
	pass("settled", later, 3)
}

func TestStatCacheDamage(t *testing.T) {
	root := makeDir(t, "a=one", "b=two")
	index := filepath.Join(t.TempDir(), "index")
	d, err := OpenDir(root, nil, index)
	must(t, err)
	d.now = func() time.Time { return time.Now().Add(time.Hour) }
	must(t, filetree.Hash(context.Background(), d, []string{"a", "b"}))
	must(t, d.Close())
	good, err := os.ReadFile(index)
	must(t, err)
	if x := openStatCache(index); x.count() != 2 {
		t.Fatalf("the index holds %d records, want 2", x.count())
	}
	try := func(what string, b []byte) {
		must(t, os.WriteFile(index, b, 0o600))
		if x := openStatCache(index); x.count() != 0 {
			t.Errorf("%s: %d records believed", what, x.count())
		}
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x10
		try(fmt.Sprint("bit flipped in byte ", i), bad)
	}
	for n := range len(good) {
		try(fmt.Sprint("cut to ", n), good[:n])
	}
	try("grown", append(slices.Clone(good), 0))
}

func FuzzStatCache(f *testing.F) {
	f.Add([]byte(statsMagic))
	f.Add(append([]byte(statsMagic), make([]byte, 200)...))
	file := filepath.Join(f.TempDir(), "index")
	if err := (&statCache{file: file}).write(make([]sumRecord, 1)); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < statsHeader+8 {
			return
		}
		x := &statCache{}
		if !x.parse(b) {
			return
		}
		for i := range x.count() {
			x.sum(i)
			x.find(readKey(x.records[uint64(i)*statsRecord:]))
		}
		x.find(dirKey{ino: 1})
	})
}

func TestDirLoadParallel(t *testing.T) {
	var files []string
	for i := range 300 {
		files = append(files, fmt.Sprintf("d%d/e%d/f%d=%d", i%7, i%31, i, i))
	}
	root := makeDir(t, files...)
	want := names(t, openDir(t, root, nil, ""))
	d := openDir(t, root, nil, "")
	must(t, d.Load(context.Background(), "."))
	if got := names(t, d); !slices.Equal(got, want) {
		t.Errorf("loaded in parallel: %d names, one by one %d", len(got), len(want))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := openDir(t, root, nil, "").Load(ctx, "."); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Load: %v", err)
	}
}
