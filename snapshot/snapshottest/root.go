package snapshottest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Root is the root of a draft, to be changed as a process in it would. A method that fails ends the test.
type Root struct {
	t    testing.TB
	path string
}

// NewRoot works in a directory of this machine.
func NewRoot(t testing.TB, path string) Root { return Root{t, path} }

// Path is where name is for this process. No link may be on the way.
func (r Root) Path(name string) string { return filepath.Join(r.path, name) }

func (r Root) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// File writes a file, with the directories on the way.
func (r Root) File(name, content string) {
	r.t.Helper()
	r.must(os.MkdirAll(filepath.Dir(r.Path(name)), 0o755))
	r.must(os.WriteFile(r.Path(name), []byte(content), 0o644))
}

// Dir makes a directory, with those on the way.
func (r Root) Dir(name string) { r.t.Helper(); r.must(os.MkdirAll(r.Path(name), 0o755)) }

// Symlink makes a symbolic link.
func (r Root) Symlink(target, name string) { r.t.Helper(); r.must(os.Symlink(target, r.Path(name))) }

// Link gives a file a second name.
func (r Root) Link(old, name string) { r.t.Helper(); r.must(os.Link(r.Path(old), r.Path(name))) }

// Remove deletes a file or a tree.
func (r Root) Remove(name string) { r.t.Helper(); r.must(os.RemoveAll(r.Path(name))) }

// Move renames as mv does: a directory from below, which overlayfs does not rename, is copied and deleted.
func (r Root) Move(old, name string) {
	r.t.Helper()
	mv := exec.Command("mv", "-T", old, name)
	mv.Dir = r.path
	out, err := mv.CombinedOutput()
	if err != nil {
		r.t.Fatalf("mv %s %s: %v: %s", old, name, err, out)
	}
}

// Chmod sets permission bits, with suid, sgid and sticky as chmod(2) has them.
func (r Root) Chmod(name string, mode uint32) { r.t.Helper(); r.must(unix.Chmod(r.Path(name), mode)) }

// Chown sets the owner of a file, or of a link itself.
func (r Root) Chown(name string, uid, gid int) {
	r.t.Helper()
	r.must(unix.Lchown(r.Path(name), uid, gid))
}

// Mknod makes a device, fifo or socket.
func (r Root) Mknod(name string, mode uint32, major, minor uint32) {
	r.t.Helper()
	r.must(unix.Mknod(r.Path(name), mode, int(unix.Mkdev(major, minor))))
}

// Xattr sets an attribute.
func (r Root) Xattr(name, attribute, value string) {
	r.t.Helper()
	r.must(unix.Lsetxattr(r.Path(name), attribute, []byte(value), 0))
}

// NoXattr removes an attribute.
func (r Root) NoXattr(name, attribute string) {
	r.t.Helper()
	r.must(unix.Lremovexattr(r.Path(name), attribute))
}

// Times sets the time of a file, or of a link itself.
func (r Root) Times(name string, mtime time.Time) {
	r.t.Helper()
	ts := unix.NsecToTimespec(mtime.UnixNano())
	r.must(unix.UtimesNanoAt(unix.AT_FDCWD, r.Path(name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

// ModTime returns the time of a file.
func (r Root) ModTime(name string) time.Time {
	r.t.Helper()
	info, err := os.Lstat(r.Path(name))
	r.must(err)
	return info.ModTime()
}

// Write writes at an offset of a file that it makes if need be, and leaves a hole before.
func (r Root) Write(name, content string, at int64) {
	r.t.Helper()
	f, err := os.OpenFile(r.Path(name), os.O_WRONLY|os.O_CREATE, 0o644)
	r.must(err)
	_, err = f.WriteAt([]byte(content), at)
	r.must(err)
	r.must(f.Close())
}

// Truncate sets the size of a file.
func (r Root) Truncate(name string, size int64) {
	r.t.Helper()
	r.must(os.Truncate(r.Path(name), size))
}
