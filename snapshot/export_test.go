package snapshot_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/snapshottest"
	"github.com/forge-build/forge/source"
)

// exportable is a tree with something of all that any user can make.
func exportable(t *testing.T) snapshot.Tree {
	t.Helper()
	dir := t.TempDir()
	r := snapshottest.NewRoot(t, dir)
	r.File("bin/tool", "tool")
	r.Chmod("bin/tool", 0o755)
	r.Link("bin/tool", "bin/alias")
	r.Symlink("../../../etc", "link")
	r.File("merged/new", "new")
	r.File("closed/in", "1")
	r.Chmod("closed", 0o555)
	r.File("file-over-dir", "file")
	r.File("dir-over-file/x", "x")
	r.File("dir-over-link/x", "x")
	r.Write("sparse", "end", 1<<20)
	tree, err := source.OpenDir(dir, nil, filepath.Join(t.TempDir(), "index"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

func TestExport(t *testing.T) {
	tree := exportable(t)
	var first, second bytes.Buffer
	if err := errors.Join(snapshot.Export(t.Context(), tree, &first), snapshot.Export(t.Context(), tree, &second)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two exports of one tree differ")
	}
	var got []string
	for r := tar.NewReader(&first); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimRight(strings.Join([]string{h.Name, h.Linkname, strings.Trim(string(content), "\x00")}, " "), " "))
	}
	want := []string{
		"bin/", "bin/alias  tool", "bin/tool bin/alias", "closed/", "closed/in  1", "dir-over-file/", "dir-over-file/x  x",
		"dir-over-link/", "dir-over-link/x  x", "file-over-dir  file", "link ../../../etc", "merged/", "merged/new  new", "sparse  end",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("tar has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestExportDir(t *testing.T) {
	tree := exportable(t)
	outside := t.TempDir()
	dir := filepath.Join(t.TempDir(), "out")
	r := snapshottest.NewRoot(t, dir)
	r.File("merged/old", "old")
	r.File("file-over-dir/deep/x", "old")
	r.File("dir-over-file", "old")
	r.Symlink(outside, "dir-over-link")
	r.Symlink(filepath.Join(outside, "target"), "sparse")
	for range 2 { // the second time over itself
		if err := snapshot.ExportDir(t.Context(), tree, dir, ""); err != nil {
			t.Fatal(err)
		}
	}
	r.Remove("merged/old")
	merged, err := tree.Lstat("merged")
	if err != nil {
		t.Fatal(err)
	}
	r.Times("merged", merged.ModTime)
	snapshottest.Compare(t, "directory", rootless(snapshottest.ListDir(t, dir)), rootless(snapshottest.ListTree(t, tree)))
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("files outside of the directory: %v %v", entries, err)
	}
	r.Chmod("closed", 0o755) // so that the test can clean up
}

// TestExportLayers exports what layers sum up to.
func TestExportLayers(t *testing.T) {
	needRoot(t)
	k := snapshottest.Open(t, t.TempDir(), snapshot.EROFS)
	base := snapshottest.Commit(t, k, nil, func(r snapshottest.Root) {
		r.File("etc/passwd", "root")
		r.Chown("etc/passwd", 5, 5)
		r.Chmod("etc/passwd", 0o4711)
		r.File("gone", "1")
	})
	top := snapshottest.Commit(t, k, []image.Layer{base}, func(r snapshottest.Root) { r.Remove("gone") })
	view, err := k.Store.View(t.Context(), []image.Layer{base, top})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	dir := t.TempDir()
	if err := snapshot.ExportDir(t.Context(), view, dir, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "etc/passwd"), 5, 5); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "etc/passwd"), 0o711|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	snapshottest.Compare(t, "directory", rootless(snapshottest.ListDir(t, dir)), rootless(snapshottest.ListTree(t, view)))
}

// TestPlain exports nothing that would give power over the machine.
func TestPlain(t *testing.T) {
	needRoot(t)
	k := snapshottest.Open(t, t.TempDir(), snapshot.EROFS)
	layer := snapshottest.Commit(t, k, nil, func(r snapshottest.Root) {
		r.File("able", "1")
		r.Xattr("able", "security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		r.Xattr("able", "user.kept", "1")
		r.Dir("dev")
		r.Mknod("dev/null", unix.S_IFCHR|0o666, 1, 3)
		r.Mknod("dev/sda", unix.S_IFBLK|0o666, 8, 0)
		r.Dir("group")
		r.Chmod("group", 0o2755)
		r.File("su", "1")
		r.Chmod("su", 0o6755)
	})
	view, err := k.Store.View(t.Context(), []image.Layer{layer})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	plain, dir := snapshot.Plain(view), t.TempDir()
	if err := snapshot.ExportDir(t.Context(), plain, dir, ""); err != nil {
		t.Fatal(err)
	}
	const want = "device nodes: /dev/null and 1 more; set-uid and set-gid bits and capabilities: of /able and 1 more"
	if got := plain.LeftOut(); got != want {
		t.Errorf("left out %q, want %q", got, want)
	}
	r := snapshottest.NewRoot(t, t.TempDir())
	r.File("able", "1")
	r.Xattr("able", "user.kept", "1")
	r.Dir("dev")
	r.Dir("group")
	r.Chmod("group", 0o2755)
	r.File("su", "1")
	r.Chmod("su", 0o755)
	for _, name := range []string{"able", "dev", "group", "su"} {
		r.Times(name, snapshottest.NewRoot(t, dir).ModTime(name))
	}
	snapshottest.Compare(t, "directory", rootless(snapshottest.ListDir(t, dir)), rootless(snapshottest.ListDir(t, r.Path("."))))
}

// rootless leaves out the root, whose mode is the caller's.
func rootless(lines []string) []string { return lines[1:] }

// TestCopyDir: a directory of an image is copied with all that is said of it and of what is in it, and nothing else.
func TestCopyDir(t *testing.T) {
	k := snapshottest.Open(t, t.TempDir(), "")
	draft, err := k.Store.Draft(t.Context(), nil, snapshot.DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	top, err := draft.Mount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := snapshottest.NewRoot(t, snapshottest.Path(top))
	r.File("data/a", "a")
	r.Link("data/a", "data/b")
	r.Symlink("../../etc", "data/up")
	r.Xattr("data/a", "user.of", "file")
	r.Chown("data/a", 7, 8)
	r.Chmod("data/a", 0o4755)
	r.File("beside", "not copied")
	r.Xattr("data", "user.of", "directory")
	r.Chown("data", 9, 10)
	r.Chmod("data", 0o1701)
	layer, err := draft.Commit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	view, err := k.Store.View(t.Context(), []image.Layer{layer})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	path := t.TempDir()
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := k.Store.CopyDir(t.Context(), view, "data", dir); err != nil {
		t.Fatal(err)
	}
	snapshottest.Compare(t, "copy", snapshottest.ListDir(t, path), snapshottest.ListDir(t, snapshottest.Path(top)+"/data"))
	if err := k.Store.CopyDir(t.Context(), view, "beside", dir); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("copy of a file: %v", err)
	}
}
