package snapshottest

import (
	"fmt"
	"os"
	"path/filepath"
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
		path      string
		dir, keep bool
		want      string // or an error
		layer     string
	}{
		{"/etc/hosts", false, false, "/etc/hosts", ""},
		{"run/secrets/deep/one", false, false, "/run/secrets/deep/one", ""},
		{"/new/a/b", true, false, "/new/a/b", ""},
		{"/../../run/./x", true, false, "/run/x", ""},
		{"/", true, false, "/", ""},
		{"/proc", true, true, "/proc", "proc"},
		{"/etc", false, false, "mount point /etc: is a directory", ""},
		{"/etc/hosts", true, false, "mount point /etc/hosts: not a directory", ""},
		{"/etc/hosts/x", true, false, "mount point /etc/hosts/x: not a directory", ""},
	} {
		t.Run(test.path, func(t *testing.T) {
			d, f := draft(t, k, layers, snapshot.DraftOptions{Dir: filepath.Join(t.TempDir(), "kept")})
			defer d.Close()
			before := ListDir(t, Path(f))
			got, err := d.Mountpoint(test.path, test.dir, test.keep)
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Fatalf("mount point %s is %q, want %q", test.path, got, test.want)
			}
			if err == nil {
				info, err := os.Lstat(Path(f) + got)
				if err != nil || info.IsDir() != test.dir {
					t.Fatalf("%s: %v %v", got, info, err)
				}
			}
			layer, err := d.Commit(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if names := layerNames(t, k, layer); len(names) > 0 != (test.layer != "") || len(names) > 0 && names[0] != test.layer {
				t.Errorf("layer has %q, want %q", names, test.layer)
			}
			if !test.keep {
				Compare(t, "draft after commit", ListDir(t, Path(f)), before)
			}
		})
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
			if _, err := d.Mountpoint("/a/x/dir", true, false); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Mountpoint("/b/file", false, false); err != nil {
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
		dir  bool
		want string
	}{
		{"/absolute/x", true, "/real/x"},
		{"/up/y/z", false, "/real/y/z"},
		{"/dangling", true, "/real/missing"},
		{"/dangling/sub", false, "/real/missing/sub"},
		{"/hostetc/passwd", false, "/etc/passwd"},
		{"/loop", true, "mount point /loop: too many levels of symbolic links"},
		{"/loop/x", true, "mount point /loop/x: too many levels of symbolic links"},
	} {
		t.Run(test.path, func(t *testing.T) {
			d, _ := draft(t, k, []image.Layer{base}, snapshot.DraftOptions{})
			defer d.Close()
			got, err := d.Mountpoint(test.path, test.dir, false)
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
