package snapshot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
)

// need skips a test that cannot run here, unless FORGE_TEST_MUST says that it must.
func need(t testing.TB, what string, ok bool) {
	t.Helper()
	if ok {
		return
	}
	for must := range strings.SplitSeq(os.Getenv("FORGE_TEST_MUST"), ",") {
		if must == what {
			t.Fatalf("needs %s", what)
		}
	}
	t.Skipf("needs %s", what)
}

// mountErofs mounts a layer's tar by its index, with the kernel's own calls, and returns the root.
func mountErofs(t testing.TB, s *Store, layer image.Layer) string {
	t.Helper()
	tar, err := s.layout.OpenTar(context.Background(), layer)
	if err != nil {
		t.Fatal(err)
	}
	defer tar.Close()
	return mountIndex(t, indexPath(t, s, layer), tar)
}

// mountIndex mounts a tar by its index.
func mountIndex(t testing.TB, index string, tar *os.File) string {
	t.Helper()
	need(t, "root", os.Getuid() == 0)
	fd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	need(t, "erofs", err == nil)
	defer unix.Close(fd)
	for key, value := range map[string]string{"source": index, "device": fmt.Sprintf("/proc/self/fd/%d", tar.Fd())} {
		if err := unix.FsconfigSetString(fd, key, value); err != nil {
			t.Fatalf("%s=%s: %v", key, value, err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		b := make([]byte, 1000)
		n, _ := unix.Read(fd, b)
		t.Fatalf("mount: %v: %s", err, b[:max(n, 0)])
	}
	mfd, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(mfd) })
	return fmt.Sprintf("/proc/self/fd/%d", mfd)
}

// A hostTree reads a mounted directory as a Tree, in the plainest way.
type hostTree struct {
	Tree
	root string
}

func (h hostTree) Open(name string) (filetree.File, error) {
	return os.Open(filepath.Join(h.root, name))
}

func (h hostTree) Lstat(name string) (Entry, error) {
	path := filepath.Join(h.root, name) // of the root: with a slash, as /proc/self/fd has links
	if name == "." {
		path += "/."
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Entry{}, err
	}
	e := Entry{
		Name: filepath.Base(name), Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size, ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec),
		Rdev: st.Rdev, Nlink: uint32(st.Nlink), Inode: st.Ino,
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		var err error
		if e.Link, err = os.Readlink(path); err != nil {
			return Entry{}, err
		}
	}
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		return Entry{}, err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !filetree.KeepXattr(name) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return Entry{}, err
		}
		if e.Xattrs == nil {
			e.Xattrs = make(map[string]string)
		}
		e.Xattrs[name] = string(value[:n])
	}
	return e, nil
}

func (h hostTree) List(name string, fn func(e *Entry, sum *filetree.Sum) error) error {
	list, err := os.ReadDir(filepath.Join(h.root, name) + "/.")
	if err != nil {
		return err
	}
	for _, d := range list {
		e, err := h.Lstat(filetree.Join(name, d.Name()))
		if err != nil {
			return err
		}
		if err := fn(&e, nil); err != nil {
			return err
		}
	}
	return nil
}

func TestLayerMounted(t *testing.T) {
	s := openStore(t)
	files := everyKind()
	layer := writeLayer(t, s, files)
	root := hostTree{root: mountErofs(t, s, layer)}
	view := viewOf(t, s, layer)
	diffLines(t, listTree(t, root), listTree(t, view))
	for _, name := range []string{"first", "second", "dir", "big", "."} {
		h, err := root.Lstat(name)
		v, err2 := view.Lstat(name)
		if err != nil || err2 != nil || h.Nlink != v.Nlink {
			t.Errorf("%s: %d links in the kernel's eyes, %d in the view's (%v, %v)", name, h.Nlink, v.Nlink, err, err2)
		}
	}
	// Whatever is in the tree is found by name, too, and nothing else is.
	for _, name := range []string{"nothing", "dir/nothing", "!", "~", ".", ".."} {
		if _, err := os.Lstat(filepath.Join(root.root, "dir/none", name+"x")); !os.IsNotExist(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBigDirectoryMounted(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	s := openStore(t)
	const n = 50000
	files := []testFile{{path: "many", Entry: mode(unix.S_IFDIR, 0o755)}}
	for i := range n {
		files = append(files, testFile{path: fmt.Sprintf("many/%05d", i), Entry: mode(unix.S_IFREG, 0o644)})
	}
	layer := writeLayer(t, s, files)
	root := mountErofs(t, s, layer)
	list, err := os.ReadDir(root + "/many/.")
	if err != nil || len(list) != n {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	view := viewOf(t, s, layer)
	for i := 0; i < n; i += 997 {
		name := fmt.Sprintf("many/%05d", i)
		if _, err := os.Lstat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
		if _, err := view.Lstat(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := view.Lstat("many/50000"); !os.IsNotExist(err) {
		t.Errorf("many/50000: %v", err)
	}
}

// A file of more than 2 GiB, at an offset of more than that, is read where it is.
func TestBigFileMounted(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	dir := t.TempDir()
	tar, err := os.Create(filepath.Join(dir, "tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer tar.Close()
	const offset, size = 5<<30 + 512, 3<<30 + 77
	marks := []int64{0, 1<<31 - 3, 1<<31 + 512, size - 6}
	for _, at := range marks {
		if _, err := tar.WriteAt([]byte("marked"), offset+at); err != nil {
			t.Fatal(err)
		}
	}
	if err := tar.Truncate(offset + size + 1024); err != nil {
		t.Fatal(err)
	}
	b := erofs.NewBuilder(nil)
	if err := b.Add("big", &Entry{Mode: unix.S_IFREG | 0o644, Size: size}, offset); err != nil {
		t.Fatal(err)
	}
	index, err := os.Create(filepath.Join(dir, "index"))
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	if err := b.Encode(index, erofs.Tar{Size: offset + size}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(mountIndex(t, index.Name(), tar) + "/big")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != size {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	for _, at := range marks {
		text := make([]byte, 6)
		if _, err := f.ReadAt(text, at); err != nil || string(text) != "marked" {
			t.Errorf("at %d: %q, %v", at, text, err)
		}
	}
}
