package durable_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/durable"
)

// need skips a test where something is missing, or fails it where FORGE_TEST_MUST says that it must not be.
func need(t *testing.T, what string, have bool) {
	t.Helper()
	if have {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("FORGE_TEST_MUST"), ","), what) {
		t.Fatalf("needs %s, which FORGE_TEST_MUST says is here", what)
	}
	t.Skipf("needs %s", what)
}

func ok(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestOutputFiles: what was there stays until the end, and keeps its mode; a link stays and its target is replaced.
func TestOutputFiles(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(path string) error // makes what is at path, in a directory of its own
		holds  string                  // the file that has the new content, beside path
		mode   fs.FileMode
	}{
		{"new", func(string) error { return nil }, "out", 0o666 &^ umask()},
		{"old", func(p string) error { return errors.Join(os.WriteFile(p, []byte("old"), 0o640), os.Chmod(p, 0o640)) }, "out", 0o640},
		{"link", func(p string) error {
			return errors.Join(os.WriteFile(p+".real", []byte("old"), 0o600), os.Symlink("out.real", p))
		}, "out.real", 0o600},
		{"link to a link", func(p string) error {
			return errors.Join(os.WriteFile(p+".real", []byte("old"), 0o600), os.Symlink("out.real", p+".2"), os.Symlink(p+".2", p))
		}, "out.real", 0o600},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out")
			ok(t, test.before(path))
			before, _ := os.Lstat(path)
			f, err := durable.Output(t.Context(), path)
			ok(t, err, durable.CheckOutput(path))
			_, err = f.Write([]byte("new"))
			ok(t, err)
			if old, err := os.ReadFile(path); err == nil && string(old) != "old" {
				t.Errorf("content %q before Commit, want the old one", old)
			}
			ok(t, f.Commit(), f.Close())
			real := filepath.Join(filepath.Dir(path), test.holds)
			if got := content(t, real); got != "new" {
				t.Errorf("content %q, want the new one", got)
			}
			st, err := os.Lstat(real)
			ok(t, err)
			if st.Mode() != test.mode {
				t.Errorf("mode %v, want %v", st.Mode(), test.mode)
			}
			if after, err := os.Lstat(path); err != nil || before != nil && after.Mode().Type() != before.Mode().Type() {
				t.Errorf("%s has become something else: %v, %v", path, after, err)
			}
		})
	}
}

func umask() fs.FileMode {
	m := unix.Umask(0)
	unix.Umask(m)
	return fs.FileMode(m)
}

// TestOutputRefused: what cannot be written to is an error that says so, before and at the opening, and stays what it is.
func TestOutputRefused(t *testing.T) {
	for _, test := range []struct {
		name, path, want string
		before           func(path string) error
	}{
		{"directory", "out", "is a directory", func(p string) error { return os.Mkdir(p, 0o700) }},
		{"slash", "out/", "the name of a directory", func(string) error { return nil }},
		{"socket", "out", "is a socket", func(p string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}},
		{"link to nothing", "out", "a link to a file that does not exist", func(p string) error { return os.Symlink("none", p) }},
		{"link to a directory", "out", "is a directory", func(p string) error { return os.Symlink(".", p) }},
		{"no directory", "none/out", "no such file or directory", func(string) error { return nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := dir + "/" + test.path
			ok(t, test.before(path))
			before, _ := os.Lstat(path)
			_, err := durable.Output(t.Context(), path)
			for _, err := range []error{err, durable.CheckOutput(path)} {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want one with %q", err, test.want)
				}
			}
			if after, _ := os.Lstat(path); before != nil && !os.SameFile(before, after) {
				t.Errorf("%v has become %v", before, after)
			}
		})
	}
}

// TestOutputDevice: a device is written to, and stays a device.
func TestOutputDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "null")
	err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	need(t, "root", err == nil)
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err != nil {
		need(t, "root", false) // the file system is mounted nodev
	} else {
		f.Close()
	}
	ok(t, durable.WriteOutput(t.Context(), path, []byte("gone")))
	st, err := os.Lstat(path)
	ok(t, err)
	if st.Mode()&fs.ModeCharDevice == 0 {
		t.Errorf("the device has become %v", st.Mode())
	}
	onlyFile(t, path)
}

// TestOutputPipe: a pipe is written to once it has a reader, and stays a pipe.
func TestOutputPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	ok(t, unix.Mkfifo(path, 0o600))
	want := strings.Repeat("much more than a pipe holds ", 10000)
	written := make(chan error)
	go func() { written <- durable.WriteOutput(t.Context(), path, []byte(want)) }()
	got, err := os.ReadFile(path)
	ok(t, err, <-written)
	if string(got) != want {
		t.Errorf("%d bytes came through, want %d", len(got), len(want))
	}
	if st, err := os.Lstat(path); err != nil || st.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("the pipe has become %v, %v", st, err)
	}
}

// TestOutputPipeEnds: neither a pipe that nobody opens nor one that nobody reads keeps a command that was told to stop.
func TestOutputPipeEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	ok(t, unix.Mkfifo(path, 0o600))
	cause := errors.New("told to stop")
	for _, opened := range []bool{false, true} {
		if opened {
			r, err := os.OpenFile(path, os.O_RDWR, 0)
			ok(t, err)
			defer r.Close()
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		written := make(chan error)
		go func() { written <- durable.WriteOutput(ctx, path, make([]byte, 1<<20)) }()
		cancel(cause)
		if err := <-written; !errors.Is(err, cause) {
			t.Errorf("opened %v: error %v, want %v", opened, err, cause)
		}
	}
}

// TestOutputDescriptor: /dev/fd/N goes on where the descriptor stands, whatever that is. Descriptors that the process has
// opened for itself cannot be named.
func TestOutputDescriptor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	ok(t, err)
	defer f.Close()
	_, err = f.WriteString("before ")
	ok(t, err)
	names := []string{fmt.Sprintf("/dev/fd/%d", f.Fd()), fmt.Sprintf("/proc/self/fd/%d", f.Fd()), filepath.Join(t.TempDir(), "link")}
	ok(t, os.Symlink(names[0], names[2]))
	for _, name := range names {
		if _, err := durable.Output(t.Context(), name); err == nil || !strings.Contains(err.Error(), "given no descriptor") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFD, 0) // as it would have been inherited
	ok(t, err)
	for _, name := range names {
		ok(t, durable.CheckOutput(name), durable.WriteOutput(t.Context(), name, []byte("x")))
	}
	_, err = f.WriteString(" after")
	ok(t, err)
	if got := content(t, path); got != "before xxx after" {
		t.Errorf("content %q", got)
	}
	onlyFile(t, path)
}

func TestOutputSocketDescriptor(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	ok(t, err)
	defer unix.Close(pair[0])
	ok(t, durable.WriteOutput(t.Context(), fmt.Sprintf("/dev/fd/%d", pair[0]), []byte("hello")))
	buf := make([]byte, 9)
	n, err := unix.Read(pair[1], buf)
	ok(t, err, unix.Close(pair[1]))
	if string(buf[:n]) != "hello" {
		t.Errorf("got %q through the socket", buf[:n])
	}
}

func TestInput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	ok(t, os.WriteFile(path, []byte("text"), 0o600))
	pipe := path + ".pipe"
	ok(t, unix.Mkfifo(pipe, 0o600))
	go func() { _ = os.WriteFile(pipe, []byte("text"), 0) }()
	for _, name := range []string{path, pipe} {
		if got, err := durable.ReadInput(t.Context(), name, 4); err != nil || string(got) != "text" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := durable.ReadInput(t.Context(), path, 3); err == nil || !strings.Contains(err.Error(), "more than 3 bytes") {
		t.Errorf("too long: %v", err)
	}
	if _, err := durable.ReadInput(t.Context(), filepath.Dir(path), 3); err == nil {
		t.Error("a directory was read")
	}
}

// TestInputEnds: neither a pipe that nobody opens nor one that nobody writes to keeps a command that was told to stop.
func TestInputEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	ok(t, unix.Mkfifo(path, 0o600))
	cause := errors.New("told to stop")
	for _, opened := range []bool{false, true} {
		if opened {
			w, err := os.OpenFile(path, os.O_RDWR, 0)
			ok(t, err)
			defer w.Close()
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		read := make(chan error)
		go func() {
			_, err := durable.ReadInput(ctx, path, 1)
			read <- err
		}()
		cancel(cause)
		if err := <-read; !errors.Is(err, cause) {
			t.Errorf("opened %v: error %v, want %v", opened, err, cause)
		}
	}
}

func TestOpenRegular(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	ok(t, os.WriteFile(path, []byte("text"), 0o600), unix.Mkfifo(path+".pipe", 0o600), os.Symlink("f.pipe", path+".link"))
	f, err := durable.OpenRegular(path)
	ok(t, err)
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{path + ".pipe", path + ".link", filepath.Dir(path)} {
		if _, err := durable.OpenRegular(name); err == nil || !strings.Contains(err.Error(), "is no regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOutputMounted: a file that is mounted, which cannot be replaced, gets the content, and nothing that was there is left.
func TestOutputMounted(t *testing.T) {
	dir := t.TempDir()
	real, path := filepath.Join(dir, "real"), filepath.Join(dir, "out")
	ok(t, os.WriteFile(real, []byte("what was there"), 0o600), os.WriteFile(path, nil, 0o600))
	done := make(chan [2]error)
	go func() { // the thread ends with this, and its mounts do
		runtime.LockOSThread()
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount(real, path, "", unix.MS_BIND, ""))
		if err != nil {
			done <- [2]error{err, nil}
			return
		}
		done <- [2]error{nil, errors.Join(durable.CheckOutput(path), durable.WriteOutput(context.Background(), path, []byte("new")))}
	}()
	errs := <-done
	need(t, "root", errs[0] == nil)
	ok(t, errs[1])
	if text, err := os.ReadFile(real); string(text) != "new" || err != nil {
		t.Errorf("the mounted file has %q, %v", text, err)
	}
}
