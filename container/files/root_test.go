package files_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/files"
)

// TestStopped: a path in a container that does not run leads where it would lead if it ran, through links and what is mounted.
func TestStopped(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"root/run/app", "root/var", "root/data/rel", "volumes/app/sub", "volumes/data", "volumes/deep", "volumes/inner"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, link := range map[string]string{
		"root/var/run": "/run", "root/data/cur": "/data/rel", "root/up": "../../var/run/app",
		"volumes/data/cur": "/var/run/app/sub", "volumes/data/out": "../../../etc/passwd", "volumes/app/back": "/data", "volumes/app/loop": "/var/run/app/loop",
	} {
		if err := os.Symlink(link, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	opened := map[string]bool{}
	stopped := &files.Stopped{
		Mounts: []container.MountPoint{
			{Type: "volume", Name: "inner", Target: "/run/app/sub/inner"},
			{Type: "volume", Name: "app", Target: "/var/run/app"},
			{Type: "volume", Name: "data", Target: "/data"},
			{Type: "volume", Name: "deep", Target: "/not/yet/there"},
			{Type: "tmpfs", Target: "/tmp"},
			{Type: "bind", Name: "gone", Target: "/gone"},
		},
		Open: func(_ context.Context, m *container.MountPoint) (*os.File, error) {
			if opened[m.Name] {
				t.Errorf("%s is opened twice", m.Name)
			}
			opened[m.Name] = true
			f, err := os.Open(filepath.Join(dir, "volumes", m.Name))
			if err == nil {
				t.Cleanup(func() { f.Close() })
			}
			return f, err
		},
	}
	r := files.Open("web", root, stopped)
	for _, test := range []struct{ path, want string }{
		{"/var/run/app/new", "/run/app/new in app"},
		{"/run/app/new", "/run/app/new in app"},
		{"/up/new", "/run/app/new in app"},
		{"/var/run/new", "/run/new in root"},
		{"/data", "/data in data"},
		{"/data/cur/new", "/run/app/sub/new in app"},
		{"/data/cur/inner/new", "/run/app/sub/inner/new in inner"},
		{"/data/out", "Could not find the file /data in container web"},
		{"/run/app/back/cur/back/new", "Could not find the file /run/app/back/cur/back in container web"},
		{"/not/yet/there/new", "/not/yet/there/new in deep"},
		{"/not/yet/new", "Could not find the file /not/yet/new in container web"},
		{"/tmp/new", "/tmp is there only while container web runs: start it"},
		{"/gone/new", "mount at /gone of container web: open " + dir + "/volumes/gone: no such file or directory"},
		{"/run/app/loop", "resolve run/app/loop: too many levels of symbolic links"},
	} {
		got, err := place(t, r, dir, test.path)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s is %s, want %s", test.path, got, test.want)
		}
		delete(opened, "gone")
	}
}

// place is where a file of a container would be made, and in what.
func place(t *testing.T, r *files.Root, dir, name string) (string, error) {
	t.Helper()
	target, err := r.Target(t.Context(), name)
	if err != nil {
		return "", err
	}
	shown := target.Shown()
	at := "." // in its tree
	if !target.Dir {
		s := files.Source{}
		if at, err = s.To(target); err != nil {
			return "", err
		}
	}
	f, err := r.Writable(target.In(at), name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	is, err := f.Stat()
	if err != nil {
		return "", err
	}
	for _, in := range []string{"root", "volumes/app", "volumes/data", "volumes/deep", "volumes/inner"} {
		found := false
		err := filepath.WalkDir(filepath.Join(dir, in), func(path string, _ os.DirEntry, err error) error {
			if there, statErr := os.Lstat(path); statErr == nil && os.SameFile(is, there) {
				found = true
			}
			return err
		})
		if err != nil {
			return "", err
		}
		if found {
			return shown + " in " + filepath.Base(in), nil
		}
	}
	return shown + " in nothing", nil
}
