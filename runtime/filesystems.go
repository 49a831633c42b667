package runtime

import (
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	noSuid     = unix.MOUNT_ATTR_NOSUID
	noSuidDev  = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	noSuidExec = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	readOnly   = unix.MOUNT_ATTR_RDONLY
)

func cleanPath(p string) string { return path.Clean("/" + p) }

// tmpfsOptions are the options for a size in bytes and the mode of the root directory.
func tmpfsOptions(size int64, mode uint32) []option {
	if mode == 0 {
		mode = 0o1777
	}
	o := []option{{"mode", strconv.FormatUint(uint64(mode), 8)}}
	if size > 0 {
		o = append(o, option{"size", strconv.FormatInt(size, 10)})
	}
	return o
}

// mountPoint opens a directory at the top of the root, which has to be one, not a link.
func (s *setup) mountPoint(name string) arg {
	s.step = "mount point /" + name
	target := s.word()
	s.beneath(s.root, name, unix.O_DIRECTORY).into(target)
	s.step = "mount /" + name
	return target
}

// mountProc mounts a fresh procfs and hides what is not for containers. Only now that the process is in its own pid
// namespace does a new procfs show that.
func (s *setup) mountProc() error {
	target := s.mountPoint("proc")
	proc, err := s.freshOrOuter("proc", "/proc", noSuidExec)
	if err != nil {
		return err
	}
	// Masks would be worth nothing on anything but procfs.
	buf := s.space(128)
	s.call(unix.SYS_FSTATFS, proc, buf)
	s.call(opExpect, buf.ref(), num(^uint64(0)), num(unix.PROC_SUPER_MAGIC), num(unix.ENOTSUP))
	s.attach(proc, target)
	if len(s.spec.Sysctls) > 0 {
		s.sysctl = s.word()
		s.beneath(proc, "sys", unix.O_DIRECTORY).into(s.sysctl)
	}
	if s.spec.Security.Privileged {
		return nil
	}
	for _, name := range readOnlyProc() {
		s.readOnlyPath("/proc", proc, name)
	}
	for _, name := range maskedProc() {
		s.mask("/proc", proc, name)
	}
	return nil
}

// freshOrOuter makes a mount of a new procfs or sysfs, which others have at a path. In a user namespace the kernel refuses that where part of the one that is
// mounted around is hidden, as in most containers: then it is that one, with what hides parts of it. Its processes are those
// of the namespace around, of which those inside can do nothing to any but their own.
func (s *setup) freshOrOuter(fstype, path string, attrs uint64) (arg, error) {
	mount := s.newMount(fstype, attrs)
	if !s.rootless || !InContainer() { // outside, it would show the machine's
		return mount, nil
	}
	refused := s.ops[len(s.ops)-2].allow(errnos(unix.EPERM)) // fsmount; closing the context follows
	fresh := s.jump()
	s.endSkip(refused)
	outer, err := outerMount(path, attrs)
	if err != nil {
		return mount, &SetupError{s.step, err}
	}
	s.call(opStore, mount.addr(), num(s.pass(s.own(outer))))
	s.endSkip(fresh)
	return mount, nil
}

// outerMount clones what is mounted at a path, with all below it.
func outerMount(path string, attrs uint64) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return cloneMount(f, &unix.MountAttr{Attr_set: attrs, Propagation: unix.MS_PRIVATE})
}

// mountSys mounts sysfs read-only. The kernel lets only the owner of the network namespace do that.
func (s *setup) mountSys() error {
	target := s.mountPoint("sys")
	if s.rootless && s.spec.Network.Mode == "host" {
		s.attach(s.newMount("tmpfs", noSuidExec|readOnly, option{"mode", "555"}), target)
		return nil
	}
	attrs := uint64(noSuidExec | readOnly)
	if s.spec.Security.Privileged {
		attrs = noSuidExec
	}
	sys, err := s.freshOrOuter("sysfs", "/sys", attrs)
	if err != nil {
		return err
	}
	s.attach(sys, target)
	if s.cgroup != nil && s.cgroup.unified != nil {
		// Its own is the top of it. Version 1 would take a mount for each controller; few look there.
		s.step = "mount /sys/fs/cgroup"
		target := s.word()
		s.beneath(sys, "fs/cgroup", unix.O_DIRECTORY).into(target)
		s.attach(s.newMount("cgroup2", attrs), target)
	}
	if s.spec.Security.Privileged {
		return nil
	}
	for _, name := range maskedSys() {
		s.mask("/sys", sys, name)
	}
	return nil
}

// MaskedPaths are what a container that is not privileged sees nothing of, if the kernel has it.
func MaskedPaths() (paths []string) {
	for _, name := range maskedProc() {
		paths = append(paths, "/proc/"+name)
	}
	for _, name := range maskedSys() {
		paths = append(paths, "/sys/"+name)
	}
	return paths
}

// ReadOnlyPaths are what a container that is not privileged can only read of /proc. Of /sys it can only read.
func ReadOnlyPaths() (paths []string) {
	for _, name := range readOnlyProc() {
		paths = append(paths, "/proc/"+name)
	}
	return paths
}

func readOnlyProc() []string { return []string{"bus", "fs", "irq", "sys", "sysrq-trigger"} }

func maskedProc() []string {
	return []string{
		"acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats",
	}
}

// maskedSys are names below /sys; those of the processors are as many as there are.
func maskedSys() []string {
	names := []string{"firmware", "devices/virtual/powercap", "fs/selinux"}
	const cpus = "/sys/devices/system/cpu/"
	if _, err := os.Lstat(cpus + "cpu0/thermal_throttle"); err != nil {
		return names
	}
	present, _ := os.ReadFile(cpus + "possible") // such as 0-127
	_, last, _ := strings.Cut(strings.TrimSpace(string(present)), "-")
	n, _ := strconv.Atoi(last)
	for i := range n + 1 {
		names = append(names, "devices/system/cpu/cpu"+strconv.Itoa(i)+"/thermal_throttle")
	}
	return names
}

// readOnlyPath makes a part of a file system read-only by mounting it on itself. What this kernel has not is skipped.
func (s *setup) readOnlyPath(where string, fs arg, name string) {
	s.step = "make " + where + "/" + name + " read-only"
	target, mount := s.word(), s.word()
	absent := s.beneath(fs, name, 0).into(target).allow(errnos(unix.ENOENT))
	s.clone(target, "").into(mount)
	s.attributes(mount, readOnly|noSuidExec)
	s.attach(mount, target)
	s.call(unix.SYS_CLOSE, mount)
	s.call(unix.SYS_CLOSE, target)
	s.endSkip(absent)
}

// mask hides a directory behind an empty read-only one, and a file behind our own /dev/null. Any error but that there
// is nothing to hide ends the set-up.
func (s *setup) mask(where string, fs arg, name string) {
	s.step = "mask " + where + "/" + name
	target, mount := s.word(), s.word()
	absent := s.beneath(fs, name, 0).into(target).allow(errnos(unix.ENOENT))
	directory := s.beneath(fs, name, unix.O_DIRECTORY).into(mount).allow(errnos(unix.ENOTDIR))
	s.call(unix.SYS_CLOSE, mount)
	s.clone(s.empty, "").into(mount)
	masked := s.jump()
	s.endSkip(directory)
	s.clone(s.dev, "null").into(mount)
	s.endSkip(masked)
	s.attach(mount, target)
	s.call(unix.SYS_CLOSE, mount)
	s.call(unix.SYS_CLOSE, target)
	s.endSkip(absent)
}
