package snapshot_test

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/snapshottest"
)

// TestMovedMount lets a mount namespace take the draft's mount, as a container does, and end.
func TestMovedMount(t *testing.T) {
	needRoot(t)
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			k := snapshottest.Open(t, t.TempDir(), kind)
			base := snapshottest.Commit(t, k, nil, func(r snapshottest.Root) { r.File("etc/old", "1") })
			d, err := k.Store.Draft(t.Context(), []image.Layer{base}, snapshot.DraftOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if _, err := d.Mountpoint("/etc/hosts", 0); err != nil {
				t.Fatal(err)
			}
			f, err := d.Mount(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := inNamespace(func() error { return useMount(f, t.TempDir()) }); err != nil {
				t.Fatal(err)
			}
			layer, err := d.Commit(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			view, err := k.Store.View(t.Context(), []image.Layer{layer})
			if err != nil {
				t.Fatal(err)
			}
			defer view.Close()
			if list, err := filetree.ReadDir(view, "."); err != nil || len(list) != 1 || list[0].Name != "written" {
				t.Errorf("layer has %v %v, want only what was written", list, err)
			}
		})
	}
}

// useMount mounts root at dir, a file on its mount point, and writes.
func useMount(root *os.File, dir string) error {
	if err := unix.MoveMount(int(root.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	if err := unix.Mount("/dev/null", dir+"/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	return os.WriteFile(dir+"/written", []byte("1"), 0o644)
}

// inNamespace runs f in a mount namespace of its own, which ends when the kernel comes to it.
func inNamespace(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}
