package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func writeFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func openFile(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestMounts(t *testing.T) {
	host := t.TempDir()
	writeFiles(t, host, map[string]string{"dir/a": "from host\n", "file": "a file\n", "dir/sub/x": ""})
	dir, file := openDir(t, filepath.Join(host, "dir")), openFile(t, filepath.Join(host, "file"))
	root := rootfs(t)
	writeFiles(t, root, map[string]string{"etc/resolv.conf": "", "etc/hosts": ""})
	for _, test := range []struct {
		name   string
		mount  Mount
		script string
		want   string
	}{
		{"read-write", Mount{Target: "/mnt", Source: dir}, "cat /mnt/a; echo new >/mnt/b && cat /mnt/b", "from host\nnew\n"},
		{"read-only", Mount{Target: "/mnt", Source: dir, ReadOnly: true}, "cat /mnt/a; echo new 2>&1 >/mnt/c", "from host\nsh: can't create /mnt/c: Read-only file system\n"},
		{"file", Mount{Target: "/etc/resolv.conf", Source: file}, "cat /etc/resolv.conf; rm /etc/resolv.conf 2>/dev/null || echo busy", "a file\nbusy\n"},
		{"devices", Mount{Target: "/mnt", Source: dir, Devices: true}, "grep -o ' /mnt rw,relatime' /proc/self/mountinfo", " /mnt rw,relatime\n"},
		{"noexec", Mount{Target: "/mnt", Source: dir, NoExec: true}, "cp /bin/busybox /mnt/busybox; /mnt/busybox true 2>&1; rm /mnt/busybox", "sh: /mnt/busybox: Permission denied\n"},
		{"tmpfs", Mount{Target: "/mnt", Tmpfs: Tmpfs{Size: 1 << 20, Mode: 0o700}}, "stat -c %a /mnt; dd if=/dev/zero of=/mnt/x bs=64k count=20 2>/dev/null; wc -c </mnt/x", "700\n1048576\n"},
		{"tmpfs default", Mount{Target: "/mnt"}, "stat -c %a /mnt; grep -o ' /mnt rw,nosuid,nodev' /proc/self/mountinfo", "1777\n /mnt rw,nosuid,nodev\n"},
		{"below /dev", Mount{Target: "/dev/pipes", Source: dir}, "cat /dev/pipes/a; stat -c %a /dev/pipes", "from host\n755\n"},
		{"far below /dev", Mount{Target: "/dev/a/b/../c/f", Source: file}, "cat /dev/a/c/f", "a file\n"},
		{"over shm", Mount{Target: "/dev/shm", Tmpfs: Tmpfs{Size: 1 << 20}}, "df -k /dev/shm | grep -c ' 1024 '", "1\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, _ := run(t, Spec{Root: openDir(t, root), Mounts: []Mount{test.mount}}, test.script)
			if out != test.want {
				t.Errorf("got %q, want %q", out, test.want)
			}
		})
	}
}

// Links in the image lead nowhere but into the image.
func TestMountTargetsStayInside(t *testing.T) {
	host, root := t.TempDir(), rootfs(t)
	writeFiles(t, host, map[string]string{"victim/x": "", "source/got": "in"})
	victim := filepath.Join(host, "victim")
	up := strings.Repeat("../", 20)
	for link, target := range map[string]string{"abs": victim, "rel": up + victim[1:], "magic": "/proc/1/root" + victim, "cwd": "/proc/self/cwd"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	source := openDir(t, filepath.Join(host, "source"))
	start := func(s Spec) error {
		s.Root, s.Args = openDir(t, root), []string{"/bin/true"}
		p, err := Start(context.Background(), s, Stdio{})
		if err == nil {
			p.Wait()
		}
		return err
	}
	for _, target := range []string{"/abs", "/rel", "/proc/1/root" + victim, "/proc/self/cwd", "/cwd", "/" + up + victim} {
		err := start(Spec{Mounts: []Mount{{Target: target, Source: source}}})
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ELOOP) {
			t.Errorf("mount on %s: %v", target, err)
		}
		if err = start(Spec{Dir: target}); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ELOOP) {
			t.Errorf("directory %s: %v", target, err)
		}
	}
	// Where the same path is in the image, that is where the mount goes.
	if err := os.MkdirAll(filepath.Join(root, victim), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/abs", "/rel", "/" + up + victim} {
		out, _ := run(t, Spec{Root: openDir(t, root), Mounts: []Mount{{Target: target, Source: source}}, Dir: target}, "cat "+victim+"/got; pwd")
		if out != "in"+victim+"\n" {
			t.Errorf("mount on %s: %q", target, out)
		}
	}
	if _, err := os.Stat(filepath.Join(victim, "got")); err == nil {
		t.Error("the mount is on the host")
	}
}

// Nothing is made in what the caller has mounted below /dev, and no link in it followed.
func TestMakeOnlyInOwnDev(t *testing.T) {
	host, root := t.TempDir(), openDir(t, rootfs(t))
	writeFiles(t, host, map[string]string{"source/sub/x": "", "victim/x": ""})
	if err := os.Symlink(filepath.Join(host, "victim"), filepath.Join(host, "source/link")); err != nil {
		t.Fatal(err)
	}
	below := Mount{Target: "/dev/pipes", Source: openDir(t, filepath.Join(host, "source"))}
	for target, want := range map[string]error{"/dev/pipes/new": unix.EXDEV, "/dev/pipes/link/new": unix.EXDEV, "/dev/fd/new": nil} {
		s := Spec{Root: root, Args: []string{"/bin/true"}, Mounts: []Mount{below, {Target: target}}}
		p, err := Start(context.Background(), s, Stdio{})
		if err == nil {
			p.Wait()
		}
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("mount on %s: %v", target, err)
		}
	}
	for _, name := range []string{"source/new", "victim/new"} {
		if _, err := os.Lstat(filepath.Join(host, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	out, _ := run(t, Spec{Root: root, Mounts: []Mount{below, {Target: "/dev/pipes/sub", Tmpfs: Tmpfs{Size: 1 << 20}}}}, "ls /dev/pipes/sub; ls /dev/pipes")
	if out != "link\nsub\n" {
		t.Errorf("a mount on what is there: %q", out)
	}
}

// What a container mounts does not come back to the host, though the host's mounts are shared.
func TestNoPropagation(t *testing.T) {
	host := t.TempDir()
	if err := unix.Mount(host, host, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(host, unix.MNT_DETACH)
	if err := unix.Mount("", host, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, host, map[string]string{"sub/x": ""})
	s := Spec{Security: Security{Privileged: true}, Mounts: []Mount{{Target: "/mnt", Source: openDir(t, host)}}}
	out, exit := run(t, s, "mount -t tmpfs none /mnt/sub && ls /mnt/sub; cat /dev/pts/ptmx >/dev/null & sleep 0.05")
	if exit.Code != 0 || out != "" {
		t.Errorf("exit %v: %s", exit, out)
	}
	if _, err := os.Stat(filepath.Join(host, "sub/x")); err != nil {
		t.Error("the container's mount is on the host:", err)
	}
}

// helperMounts compares mounts before and after a container, in a mount namespace that nobody else changes.
func helperMounts() {
	root, err := os.Open(os.Args[1])
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	before, err2 := os.ReadFile("/proc/self/mountinfo")
	p, err3 := Start(context.Background(), Spec{Root: root, Args: []string{"/bin/true"}, Mounts: []Mount{{Target: "/mnt"}}}, Stdio{})
	if err := errors.Join(err, err2, err3); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	p.Wait()
	if after, _ := os.ReadFile("/proc/self/mountinfo"); string(before) != string(after) {
		fmt.Printf("before:\n%s\nafter:\n%s", before, after)
		os.Exit(1)
	}
}

// Nothing of a container's mounts is left when it has ended.
func TestNoMountsLeft(t *testing.T) {
	cmd := helper(t, "mounts", 0, rootfs(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if got := output(cmd); got != "exit status 0" {
		t.Error(got)
	}
}
