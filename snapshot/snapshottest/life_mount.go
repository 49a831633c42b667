package snapshottest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// mountPoints asks for places to mount on and makes sure that nothing of them is in the layer.
func mountPoints(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	base := Commit(t, k, nil, func(r Root) {
		r.File("etc/hosts", "x")
		r.Dir("run")
		r.Times("run", moment)
		r.Times(".", moment)
	})
	layers := []image.Layer{base}
	for _, test := range []struct {
		path string
		kind fs.FileMode
		want string // or an error
	}{
		{"/etc/hosts", 0, "/etc/hosts"},
		{"run/secrets/deep/one", 0, "/run/secrets/deep/one"},
		{"/new/a/b", fs.ModeDir, "/new/a/b"},
		{"/../../run/./x", fs.ModeDir, "/run/x"},
		{"/", fs.ModeDir, "/"},
		{"/etc", 0, "mount point /etc: is a directory"},
		{"/etc/hosts", fs.ModeDir, "mount point /etc/hosts: not a directory"},
		{"/etc/hosts/x", fs.ModeDir, "mount point /etc/hosts/x: not a directory"},
	} {
		t.Run(test.path, func(t *testing.T) {
			d, f := draft(t, k, layers, snapshot.DraftOptions{Dir: filepath.Join(t.TempDir(), "kept")})
			defer d.Close()
			before := ListDir(t, Path(f))
			got, err := d.Mountpoint(test.path, test.kind)
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Fatalf("mount point %s is %q, want %q", test.path, got, test.want)
			}
			if err == nil {
				info, err := os.Lstat(Path(f) + got)
				if err != nil || info.IsDir() != test.kind.IsDir() {
					t.Fatalf("%s: %v %v", got, info, err)
				}
			}
			layer, err := d.Commit(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if names := layerNames(t, k, layer); len(names) > 0 {
				t.Errorf("layer has %q", names)
			}
			Compare(t, "draft after commit", ListDir(t, Path(f)), before)
		})
	}
	d, _ := draft(t, k, layers, snapshot.DraftOptions{})
	defer d.Close()
	if err := d.MakeDir("/proc"); err != nil {
		t.Fatal(err)
	}
	layer, err := d.Commit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if names := layerNames(t, k, layer); !slices.Equal(names, []string{"proc"}) {
		t.Errorf("after MakeDir the layer has %q", names)
	}
}

// mountPointsInUse lets a process put things where mount points were made.
func mountPointsInUse(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	base := Commit(t, k, nil, func(r Root) { r.Dir("a"); r.Dir("b"); r.Dir("c") })
	for _, test := range []struct {
		name string
		do   func(r Root)
		want string
	}{
		{"beside", func(r Root) { r.File("a/x/beside", "1") }, "[a a/x a/x/beside]"},
		{"inside", func(r Root) { r.File("a/x/dir/inside", "1") }, "[a a/x a/x/dir a/x/dir/inside]"},
		{"above", func(r Root) { r.File("a/above", "1") }, "[a a/above]"},
		{"written", func(r Root) { r.File("b/file", "1") }, "[b b/file]"},
		{"removed", func(r Root) { r.Remove("a/x") }, "[a]"},
		{"replaced", func(r Root) { r.Remove("b/file"); r.Symlink("../../../c", "b/file") }, "[b b/file]"},
		{"moved", func(r Root) { r.Move("a/x", "c/y") }, "[a c c/y]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, f := draft(t, k, []image.Layer{base}, snapshot.DraftOptions{})
			defer d.Close()
			if _, err := d.Mountpoint("/a/x/dir", fs.ModeDir); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Mountpoint("/b/file", 0); err != nil {
				t.Fatal(err)
			}
			r := NewRoot(t, Path(f))
			test.do(r)
			layer, err := d.Commit(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if names := fmt.Sprint(layerNames(t, k, layer)); names != test.want {
				t.Errorf("layer has %s, want %s", names, test.want)
			}
		})
	}
}

// mountPointsThroughLinks follows links as the process inside will, and never out.
func mountPointsThroughLinks(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	base := Commit(t, k, nil, func(r Root) {
		r.Dir("real")
		r.Symlink("/real", "absolute")
		r.Symlink("../../../../real", "up")
		r.Symlink("real/missing", "dangling")
		r.Symlink("loop", "loop")
		r.Symlink("/etc", "hostetc")
	})
	for _, test := range []struct {
		path string
		kind fs.FileMode
		want string
	}{
		{"/absolute/x", fs.ModeDir, "/real/x"},
		{"/up/y/z", 0, "/real/y/z"},
		{"/dangling", fs.ModeDir, "/real/missing"},
		{"/dangling/sub", 0, "/real/missing/sub"},
		{"/hostetc/passwd", 0, "/etc/passwd"},
		{"/loop", fs.ModeDir, "mount point /loop: too many levels of symbolic links"},
		{"/loop/x", fs.ModeDir, "mount point /loop/x: too many levels of symbolic links"},
	} {
		t.Run(test.path, func(t *testing.T) {
			d, _ := draft(t, k, []image.Layer{base}, snapshot.DraftOptions{})
			defer d.Close()
			got, err := d.Mountpoint(test.path, test.kind)
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("mount point %s is %q, want %q", test.path, got, test.want)
			}
			layer, err := d.Commit(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if names := layerNames(t, k, layer); len(names) != 0 {
				t.Errorf("layer has %q", names)
			}
		})
	}
}
