package openat

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a directory with links of all kinds, in another one with something that must not be reached.
func tree(t *testing.T) int {
	t.Helper()
	outer := t.TempDir()
	dir := filepath.Join(outer, "root")
	for _, err := range []error{
		os.WriteFile(filepath.Join(outer, "secret"), nil, 0o600),
		os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755),
		os.WriteFile(filepath.Join(dir, "a/f"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "secret"), nil, 0o600),
		os.Symlink("a", filepath.Join(dir, "rel")),
		os.Symlink("/a/b", filepath.Join(dir, "abs")),
		os.Symlink("../../secret", filepath.Join(dir, "a/up")),
		os.Symlink("../..", filepath.Join(dir, "a/b/top")),
		os.Symlink("f", filepath.Join(dir, "a/file")),
		os.Symlink("f/", filepath.Join(dir, "a/slash")),
		os.Symlink("b/", filepath.Join(dir, "a/dir")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.Symlink("nothing", filepath.Join(dir, "dangling")),
		os.Symlink("/", filepath.Join(dir, "a/b/root")),
		os.Symlink(strings.Repeat("./", 300)+"a", filepath.Join(dir, "long")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

// result says what a name was opened as.
func result(t *testing.T, fd int, err error) string {
	t.Helper()
	if err != nil {
		if fd >= 0 {
			t.Errorf("descriptor %d beside %v", fd, err)
		}
		return err.Error()
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	fdFlags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(st.Ino, st.Mode, flags&(unix.O_PATH|unix.O_ACCMODE), fdFlags)
}

// TestReadlink reads a link that is longer than the first buffer.
func TestReadlink(t *testing.T) {
	dir := tree(t)
	want := strings.Repeat("./", 300) + "a"
	if link, err := Readlink(dir, "long"); err != nil || link != want {
		t.Errorf("link of %d bytes, %v; want %d", len(link), err, len(want))
	}
}

// TestWalkRaced holds that whoever replaces directories by links, and moves them, while names are opened leads nobody out.
func TestWalkRaced(t *testing.T) {
	outer := t.TempDir()
	in := func(name string) string { return filepath.Join(outer, "root", name) }
	for _, err := range []error{
		os.Mkdir(filepath.Join(outer, "secret"), 0o700), os.WriteFile(filepath.Join(outer, "secret/f"), []byte("secret"), 0o600),
		os.MkdirAll(in("a/b"), 0o700), os.WriteFile(in("a/b/f"), []byte("public"), 0o600), os.Symlink(filepath.Join(outer, "secret"), in("a/l")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(filepath.Join(outer, "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	end := make(chan struct{})
	var enemy sync.WaitGroup
	enemy.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, in("a/b"), unix.AT_FDCWD, in("a/l"), unix.RENAME_EXCHANGE)
			}
		}
	})
	for i := range 20_000 {
		w := &walk{root: int(root.Fd()), follow: i%2 == 0}
		fd, err := w.open("a/b/f", unix.O_RDONLY)
		w.close()
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), "f")
		text, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil || string(text) != "public" {
			t.Fatalf("read %q, %v", text, err)
		}
	}
	close(end)
	enemy.Wait()
}

// TestWalk holds that what is opened without openat2 is what the kernel opens with it, and refused as it refuses.
func TestWalk(t *testing.T) {
	dir := tree(t)
	if _, err := unix.Openat2(dir, ".", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC}); errors.Is(err, unix.ENOSYS) {
		t.Fatal("the kernel has no openat2 to compare with")
	}
	names := []string{"a", "b", "c", "f", "rel", "abs", "up", "top", "file", "slash", "dir", "loop", "dangling", "root", "long", "secret", "..", ".", "", "missing"}
	r := rand.New(rand.NewPCG(1, 2))
	for range 30_000 {
		var elems []string
		for range r.IntN(7) {
			elems = append(elems, names[r.IntN(len(names))])
		}
		name := strings.Join(elems, "/")
		flags := []int{unix.O_PATH, unix.O_RDONLY, unix.O_WRONLY}[r.IntN(3)]
		if r.IntN(2) == 0 {
			flags |= unix.O_NOFOLLOW
		}
		if r.IntN(3) == 0 {
			flags |= unix.O_DIRECTORY
		}
		for _, follow := range []bool{false, true} {
			open := Beneath
			if follow {
				open = InRoot
			}
			fd, err := open(dir, name, flags)
			want := result(t, fd, err)
			w := &walk{root: dir, follow: follow}
			fd, err = w.open(name, flags)
			w.close()
			if got := result(t, fd, err); got != want {
				t.Fatalf("%q with %#x, links followed: %t: %s, by the kernel %s", name, flags, follow, got, want)
			}
		}
	}
}
