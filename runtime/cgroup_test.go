package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCgroup(t *testing.T) {
	parent, err := findCgroups()
	if err != nil || parent.dir["pids"] == "" {
		need(t, "cgroups", false, Cgroups())
	}
	s := Spec{
		Root: openDir(t, rootfs(t)), Env: []string{"PATH=/bin"}, Args: []string{"sleep", "100"},
		Limits: Limits{Memory: 32 << 20, CPULimits: CPULimits{NanoCPUs: 5e8}},
	}
	p, err := Start(context.Background(), s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	own, _ := os.ReadFile("/proc/" + itoa(p.Pid()) + "/cgroup")
	if !strings.Contains(string(own), cgroupPrefix+itoa(os.Getpid())) {
		t.Errorf("cgroups of the process:\n%s", own)
	}
	dirs := p.cgroup.dirs
	want := map[string]string{"pids.max": "4096", "memory.limit_in_bytes": "33554432", "cpu.cfs_quota_us": "50000"}
	if parent.unified {
		want = map[string]string{"pids.max": "4096", "memory.max": "33554432", "cpu.max": "50000 100000"}
	}
	for file, value := range want {
		found := ""
		for _, dir := range dirs {
			if b, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				found = strings.TrimSpace(string(b))
			}
		}
		if found != value {
			t.Errorf("%s is %q, want %q", file, found, value)
		}
	}
	p.Signal(os.Kill)
	p.Wait()
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}

// TestNestedCgroups: cgroups that a container has made below its own go with that, and with that of a caller who was killed.
func TestNestedCgroups(t *testing.T) {
	parent, err := findCgroups()
	if err != nil || parent.dir["pids"] == "" {
		need(t, "cgroups", false, Cgroups())
	}
	nest := func(dir string) {
		t.Helper()
		// Longer than a path may be.
		deep, name := openDir(t, dir), strings.Repeat("d", 200)
		for range 25 {
			if err := unix.Mkdirat(int(deep.Fd()), name, 0o755); err != nil {
				t.Fatal(err)
			}
			fd, err := unix.Openat(int(deep.Fd()), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			deep.Close()
			deep = os.NewFile(uintptr(fd), name)
		}
		deep.Close()
		if err := os.Mkdir(filepath.Join(dir, "beside"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(dir string) {
		t.Helper()
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	p, err := Start(context.Background(), Spec{Root: openDir(t, rootfs(t)), Env: []string{"PATH=/bin"}, Args: []string{"sleep", longTime()}}, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	dirs := slices.Clone(p.cgroup.dirs)
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err == nil { // that of the freezer may not be made
			nest(dir)
		}
	}
	p.Signal(os.Kill)
	p.Wait()
	for _, dir := range dirs {
		gone(dir)
	}
	caller := exec.Command("/bin/busybox", "sleep", longTime())
	if err := caller.Start(); err != nil {
		t.Fatal(err)
	}
	began, err := startTime(caller.Process.Pid)
	killed := filepath.Join(parent.dir["pids"], fmt.Sprintf("%s%d-s%d-nested", cgroupPrefix, caller.Process.Pid, began))
	if err := errors.Join(err, os.Mkdir(killed, 0o755)); err != nil {
		t.Fatal(err)
	}
	nest(killed)
	caller.Process.Kill()
	caller.Wait()
	await(t, killed+" is left", func() bool { // others sweep, too
		(&cgroupParent{owner: parent.owner, dir: map[string]string{"pids": parent.dir["pids"]}}).sweep()
		_, err := os.Stat(killed)
		return os.IsNotExist(err)
	})
}

// TestCgroupAhead: what is made ahead is the cgroup of one container, with its limits, or of none.
func TestCgroupAhead(t *testing.T) {
	parent, err := findCgroups()
	if err != nil || parent.dir["pids"] == "" {
		need(t, "cgroups", false, Cgroups())
	}
	made, unused := cgroupAhead(true), &CgroupAhead{make(chan *cgroup, 1)}
	unused.made <- made
	close(unused.made)
	unused.Close()
	unused.Close()
	for _, dir := range made.dirs {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	ahead := BeginCgroup(true)
	defer ahead.Close()
	var names []string
	for range 2 {
		s := Spec{
			Root: openDir(t, rootfs(t)), Env: []string{"PATH=/bin"}, Args: []string{"sleep", "100"},
			Limits: Limits{Memory: 32 << 20, Account: true, Ahead: ahead},
		}
		p, err := Start(context.Background(), s, Stdio{})
		if err != nil {
			t.Fatal(err)
		}
		dirs := p.cgroup.dirs
		names = append(names, filepath.Base(dirs[0]))
		own, _ := os.ReadFile("/proc/" + itoa(p.Pid()) + "/cgroup")
		if n := strings.Count(string(own), names[len(names)-1]); n != len(dirs) {
			t.Errorf("the process is in %d of %q:\n%s", n, dirs, own)
		}
		limit, _ := os.ReadFile(fileIn(dirs, "pids.max"))
		memory, _ := os.ReadFile(fileIn(dirs, map[bool]string{true: "memory.max", false: "memory.limit_in_bytes"}[parent.unified]))
		if string(limit) != "4096\n" || string(memory) != "33554432\n" {
			t.Errorf("limits %q and %q", limit, memory)
		}
		p.Signal(os.Kill)
		p.Wait()
		for _, dir := range dirs {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s is left: %v", dir, err)
			}
		}
	}
	if names[0] == names[1] {
		t.Error("two containers were in one cgroup")
	}
}

func TestLimitsHold(t *testing.T) {
	parent, err := findCgroups()
	if err != nil || parent.dir["pids"] == "" || parent.dir["memory"] == "" {
		need(t, "cgroups", false, Cgroups())
	}
	root := rootfs(t)
	out, _ := run(t, Spec{Root: openDir(t, root), Limits: Limits{Pids: 5}}, "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done 2>&1; wait")
	if !strings.Contains(out, "can't fork") {
		t.Errorf("nine processes within a limit of five: %s", out)
	}
	_, exit := run(t, Spec{Root: openDir(t, root), Limits: Limits{Memory: 16 << 20}}, "exec dd if=/dev/zero of=/dev/shm/x bs=1M count=60")
	if !exit.OOM || exit.Code != 137 {
		t.Errorf("60 MiB within a limit of 16: %+v", exit)
	}
}

func TestUlimitAboveOurs(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	caps, _, err := containerCapabilities(&Security{})
	if err != nil || caps.own&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		t.Skip("may raise limits")
	}
	s := Spec{Root: openDir(t, rootfs(t)), Env: []string{"PATH=/bin"}, Args: []string{"true"}, Limits: Limits{Ulimits: []Ulimit{{"nofile", own.Max + 1, own.Max + 1}}}}
	var warned []string
	s.Warn = func(text string) { warned = append(warned, text) }
	p, err := Start(context.Background(), s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
	if len(warned) != 1 || !strings.Contains(warned[0], "lowered to "+itoa(int(own.Max))) {
		t.Errorf("warnings %q", warned)
	}
}

// helperUnified runs a container on a machine that has the unified hierarchy only, as it seems from its mount namespace.
func helperUnified() {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount(os.Args[2], cgroupRoot, "", unix.MS_BIND, "")
	}
	root, err2 := os.Open(os.Args[1])
	if err := errors.Join(err, err2); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	fmt.Println(Cgroups())
	s := Spec{Root: root, Env: []string{"PATH=/bin"}, Args: []string{"sh", "-c", "mknod /zero2 c 1 5; mknod /kmsg2 c 1 11; head -c3 /zero2 | wc -c; (: </kmsg2) 2>/dev/null && echo kmsg; echo x >/dev/null && echo null; grep ^0: /proc/self/cgroup; grep -o ' /sys/fs/cgroup ro,.*cgroup2' /proc/self/mountinfo; cat"}}
	r, w := io.Pipe()
	p, err := Start(context.Background(), s, Stdio{In: r, Out: os.Stdout, Err: os.Stdout})
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	own, _ := os.ReadFile("/proc/" + itoa(p.Pid()) + "/cgroup")
	fmt.Println("outside", strings.Contains(string(own), "0::/"+cgroupPrefix+itoa(os.Getpid())))
	fmt.Println(manageUnified(p))
	w.Close()
	p.Wait()
	left, _ := filepath.Glob(cgroupRoot + "/" + cgroupPrefix + itoa(os.Getpid()) + "*")
	fmt.Println("left", left)
}

// manageUnified does to a running container what can be done without a controller.
func manageUnified(p *Process) error {
	ref, err := p.Ref()
	if err != nil {
		return err
	}
	target, err := Open(ref)
	if err != nil {
		return err
	}
	defer target.Close()
	err = target.Freeze(context.Background())
	frozen, err2 := target.frozen()
	stats, err3 := target.Stats()
	pids, err4 := target.Processes()
	err = errors.Join(err, err2, err3, err4, target.Thaw())
	thawed, err5 := target.frozen()
	err = errors.Join(err, err5)
	fmt.Println("frozen", frozen, "thawed", !thawed, "counted", stats.CPU > 0, "own", slices.Contains(pids, ref.Pid))
	fmt.Println("no controller:", target.Update(Limits{Memory: 8 << 20}))
	s := Spec{Env: []string{"PATH=/bin"}, Args: []string{"sh", "-c", "(: </kmsg2) 2>/dev/null && echo kmsg; echo $(grep ^0: /proc/self/cgroup) joined"}}
	second, err2 := Join(context.Background(), target, s, Stdio{Out: os.Stdout, Err: os.Stdout})
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	_, err = second.Wait()
	return err
}

func TestUnifiedCgroup(t *testing.T) {
	root := rootfs(t)
	hierarchy := cgroupRoot
	var st unix.Statfs_t
	if unix.Statfs(cgroupRoot, &st) == nil && st.Type != unix.CGROUP2_SUPER_MAGIC {
		hierarchy = cgroupRoot + "/unified"
	}
	err := unix.Statfs(hierarchy, &st)
	need(t, "cgroups", err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC, "no unified hierarchy")
	cmd := helper(t, "unified", 0, root, hierarchy)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	got := output(cmd)
	if strings.Contains(got, "kmsg") {
		t.Errorf("a device that is no container's could be used:\n%s", got)
	}
	for _, want := range []string{"version 2: ", "\n3\n", "\nnull\n", "0::/\n", " /sys/fs/cgroup ro,nosuid,nodev,noexec", "outside true", "frozen true thawed true counted true own true", "no controller: memory.max: ", "0::/ joined\n", "<nil>\n", "left []", "exit status 0"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

// TestOfTheDead: a number that is another process's now does not keep what the dead one has left.
func TestOfTheDead(t *testing.T) {
	began, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		fmt.Sprintf("%d-s%d-x", os.Getpid(), began): false, fmt.Sprintf("%d-s%d-x", os.Getpid(), began+1): true,
		fmt.Sprintf("%d-abc", os.Getpid()): false, "2147483647-s1-x": true, "2147483647-x": true, "x": false, "": false,
	} {
		if got := ofTheDead(name); got != want {
			t.Errorf("ofTheDead(%q) = %t, want %t", name, got, want)
		}
	}
}
