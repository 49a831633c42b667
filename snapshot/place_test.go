package snapshot_test

import (
	"bytes"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/snapshottest"
)

// TestPlace copies parts of a directory into another one in which there is something already.
func TestPlace(t *testing.T) {
	t.Parallel()
	from, out := t.TempDir(), t.TempDir()
	r := snapshottest.NewRoot(t, from)
	r.File("d/sub/f", "new")
	r.Link("d/sub/f", "d/hard")
	r.Symlink("/etc", "d/link")
	r.Xattr("d/sub/f", "user.of", "f")
	r.Chmod("d/sub/f", 0o640)
	r.Chmod("d/sub", 0o750)
	tree := snapshot.OpenLive(open(t, from))
	for name, c := range map[string]struct {
		path, name string
		prepare    func(r snapshottest.Root)
		want       string // what is there then, or the error
	}{
		"a file":            {"d/sub/f", "x", nil, "x=new"},
		"over a file":       {"d/sub/f", "x", func(r snapshottest.Root) { r.File("x", "old") }, "x=new"},
		"over a link":       {"d/sub/f", "x", func(r snapshottest.Root) { r.Symlink(out, "x") }, "x=new"},
		"a directory":       {"d", "x", nil, "x/ x/hard=new x/link->/etc x/sub/ x/sub/f=new"},
		"what is in it":     {"d", "", nil, "hard=new link->/etc sub/ sub/f=new"},
		"merged":            {"d", "x", func(r snapshottest.Root) { r.File("x/sub/own", "o") }, "x/ x/hard=new x/link->/etc x/sub/ x/sub/f=new x/sub/own=o"},
		"a link":            {"d/link", "x", nil, "x->/etc"},
		"dir over a file":   {"d", "x", func(r snapshottest.Root) { r.File("x", "old") }, `x: cannot overwrite non-directory "/at/x" with directory "/at"`},
		"dir over a link":   {"d", "x", func(r snapshottest.Root) { r.Symlink(out, "x") }, `x: cannot overwrite non-directory "/at/x" with directory "/at"`},
		"dir through links": {"d", "x", func(r snapshottest.Root) { r.Dir("x"); r.Symlink(out, "x/sub") }, `x/sub: cannot overwrite non-directory "/at/x/sub" with directory "/at"`},
		"file over a dir":   {"d/sub/f", "x", func(r snapshottest.Root) { r.File("x/f", "") }, `x: cannot overwrite directory "/at/x" with non-directory "/at"`},
		"no such file":      {"d/none", "x", nil, "lstat d/none: no such file or directory"},
		"through a link":    {"d/link/passwd", "x", nil, "lstat d/link/passwd: not a directory"},
	} {
		to := t.TempDir()
		if c.prepare != nil {
			c.prepare(snapshottest.NewRoot(t, to))
		}
		part := &snapshot.Part{Tree: tree, Path: c.path, Name: c.name}
		err := snapshot.Place(t.Context(), part, open(t, to), snapshot.PlaceOptions{At: "/at"})
		got := strings.Join(contents(t, to), " ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s\nwant %s", name, got, c.want)
		}
	}
	if left := contents(t, out); len(left) > 0 {
		t.Errorf("outside of the directory: %q", left)
	}
}

// TestPlaceReplace: where it is wanted a file takes the place of a directory, and a directory that of a file or of a link, which is not
// followed; and everything gets the owner that is given.
func TestPlaceReplace(t *testing.T) {
	t.Parallel()
	from, to, out := t.TempDir(), t.TempDir(), t.TempDir()
	r := snapshottest.NewRoot(t, from)
	r.File("a", "new")
	r.File("b/f", "new")
	r.File("c/f", "new")
	r.Symlink("/etc", "b/link")
	r = snapshottest.NewRoot(t, to)
	r.File("a/sub/old", "old")
	r.File("b", "old")
	r.Symlink(out, "c")
	r.File("other", "old")
	o := snapshot.PlaceOptions{At: "/at", Replace: true}
	if os.Geteuid() == 0 {
		o.Owners, o.Owner = true, &[2]uint32{12, 34}
	}
	part := &snapshot.Part{Tree: snapshot.OpenLive(open(t, from)), Path: "."}
	if err := snapshot.Place(t.Context(), part, open(t, to), o); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(contents(t, to), " "), "a=new b/ b/f=new b/link->/etc c/ c/f=new other=old"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if left := contents(t, out); len(left) > 0 {
		t.Errorf("outside of the directory: %q", left)
	}
	for _, name := range []string{"a", "b", "b/link"} {
		var st unix.Stat_t
		if err := unix.Lstat(to+"/"+name, &st); err != nil || o.Owner != nil && (st.Uid != 12 || st.Gid != 34) {
			t.Errorf("%s belongs to %d:%d, %v", name, st.Uid, st.Gid, err)
		}
	}
}

// TestLiveGrows: of a file that grows while it is read comes what was there when it was opened.
func TestLiveGrows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := snapshottest.NewRoot(t, dir)
	r.File("f", "one")
	tree := snapshot.OpenLive(open(t, dir))
	f, err := tree.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r.Write("f", "more", 3)
	var b bytes.Buffer
	if _, err := b.ReadFrom(f); err != nil || b.String() != "one" {
		t.Errorf("read %q, %v", &b, err)
	}
	if _, err := tree.Open("."); err == nil {
		t.Error("a directory was opened as a file")
	}
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// contents lists a directory: name/, name=content or name->target.
func contents(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || path == ".":
			return err
		case d.IsDir():
			path += "/"
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(dir + "/" + path)
			if err != nil {
				return err
			}
			path += "->" + target
		default:
			b, err := os.ReadFile(dir + "/" + path)
			if err != nil {
				return err
			}
			path += "=" + string(b)
		}
		list = append(list, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}
