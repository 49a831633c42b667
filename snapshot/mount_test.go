package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOverlayWays mounts a stack in each way that some kernel needs; this one knows all of them.
func TestOverlayWays(t *testing.T) {
	need(t, "root", os.Geteuid() == 0)
	dir := t.TempDir()
	var o overlayMount
	for _, name := range []string{"upper", "work", "low", "middle", "high"} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "who"), []byte(name), 0o644); err != nil && name != "work" {
			t.Fatal(err)
		}
		f, err := openDirectory(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		switch fd := int(f.Fd()); name {
		case "upper":
			o.upper = fd
		case "work":
			o.work = fd
		default:
			o.lowers = append(o.lowers, fd)
		}
	}
	if err := os.Remove(filepath.Join(dir, "upper", "who")); err != nil {
		t.Fatal(err)
	}
	for name, way := range map[string]func() (int, error){
		"descriptors": func() (int, error) { return o.mountBy(o.byDescriptor) },
		"names":       func() (int, error) { return o.mountBy(o.byName) },
		"joined":      o.mountJoined,
		"any":         o.mount,
	} {
		fd, err := way()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		who, err := os.ReadFile(procPath(fd) + "/who")
		if string(who) != "high" {
			t.Errorf("%s: on top is %q %v, want high", name, who, err)
		}
		for _, layer := range []string{"low", "middle", "high", "upper"} {
			if _, err := os.Lstat(procPath(fd) + "/" + layer); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	}
}

// TestOverlayErrors makes sure that the kernel's words come through.
func TestOverlayErrors(t *testing.T) {
	need(t, "root", os.Geteuid() == 0)
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	o := overlayMount{lowers: []int{int(null.Fd())}, upper: -1}
	if _, err := o.mount(); err == nil || !strings.Contains(err.Error(), "mount overlay: lowerdir") {
		t.Errorf("overlay of a device: %v", err)
	}
	o.lowers = make([]int, maxLowers+1)
	if _, err := o.mount(); err == nil || !strings.Contains(err.Error(), "501 layers") {
		t.Errorf("overlay of 501 layers: %v", err)
	}
}

// What the file system of the store is mounted with is not in force in a draft that is a copy.
func TestStoreMountedNoexec(t *testing.T) {
	need(t, "root", os.Geteuid() == 0 && !inUserNamespace())
	mount, err := mountTmpfs(64 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mount)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSUID}
	if err := unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		t.Fatal(err)
	}
	s := openStoreAt(t, procPath(mount)+"/store")
	d, err := s.Draft(context.Background(), nil, DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.root.Fd()), &st); err != nil || st.Flags&(unix.ST_NOEXEC|unix.ST_NOSUID) != 0 {
		t.Errorf("flags of the draft's mount: %#x, %v", st.Flags, err)
	}
	if err := errors.Join(d.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}
