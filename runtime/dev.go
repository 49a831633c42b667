package runtime

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A device of every container's /dev.
type device struct {
	name         string
	major, minor uint32
	block        bool
}

func devices() []device {
	return []device{
		{name: "null", major: 1, minor: 3}, {name: "zero", major: 1, minor: 5}, {name: "full", major: 1, minor: 7}, {name: "random", major: 1, minor: 8}, {name: "urandom", major: 1, minor: 9}, {name: "tty", major: 5, minor: 0},
	}
}

// DefaultShm is the size of /dev/shm where nothing else is said, in bytes. It is docker's.
const DefaultShm = 64 << 20

// devices reports whether the container's file systems honour device nodes: where a devices cgroup decides which of them
// can be used, so that CAP_MKNOD, which images expect to have, gives nobody a disk, and where the container is privileged. In
// a user namespace the kernel lets no device node be used.
func (s *setup) devices() bool {
	return !s.rootless && (s.spec.Security.Privileged || s.cgroup != nil && s.cgroup.guardsDevices)
}

// mountDev mounts an own /dev. Each of its nodes is mounted on itself, and those mounts honour them: the file system itself
// does not where no other file system of the container does.
func (s *setup) mountDev() error {
	target := s.mountPoint("dev")
	// Below our /dev lies an empty directory, to make masks from: only what is mounted can be cloned.
	s.empty = s.newMount("tmpfs", noSuidExec|readOnly, option{"mode", "555"}, option{"size", "4k"})
	s.attach(s.empty, target)
	s.dev = s.newMount("tmpfs", noSuid, option{"mode", "755"}, option{"size", "65536k"})
	s.attach(s.dev, target)

	if err := s.nodes(); err != nil {
		return err
	}
	for _, l := range [][2]string{
		{"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"},
		{"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"},
		{"pts/ptmx", "ptmx"},
	} {
		s.call(unix.SYS_SYMLINKAT, s.str(l[0]), s.dev, s.str(l[1]))
	}

	s.step = "mount /dev/pts"
	pts := []option{{"newinstance", ""}, {"ptmxmode", "0666"}, {"mode", "0620"}}
	if !s.rootless || mapped("/proc/self/gid_map", 5) {
		pts = append(pts, option{"gid", "5"}) // tty, in every distribution
	}
	s.devpts = s.newMount("devpts", noSuid|unix.MOUNT_ATTR_NOEXEC, pts...)
	s.attachNew(s.devpts, "pts")

	s.step = "mount /dev/shm"
	shm, err := s.sharedMemory()
	if err != nil {
		return err
	}
	s.attachNew(shm, "shm")

	s.step = "mount /dev/mqueue"
	s.attachNew(s.newMount("mqueue", noSuidExec), "mqueue")
	if s.spec.Terminal {
		s.makeTerminal()
	}
	return nil
}

// attachNew mounts on a new directory of /dev.
func (s *setup) attachNew(mount arg, name string) {
	s.call(unix.SYS_MKDIRAT, s.dev, s.str(name), num(0o755))
	s.attachAt(mount, name)
}

// attachAt mounts on what is at a path in /dev, where no link but our own can be.
func (s *setup) attachAt(mount arg, name string) {
	s.call(unix.SYS_MOVE_MOUNT, mount, s.str(""), s.dev, s.str(name), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// nodes makes the device nodes. Who may not make any takes the host's.
func (s *setup) nodes() error {
	s.step = "devices"
	list := devices()
	if s.spec.Security.Privileged {
		list = append(list, hostDevices()...)
	}
	mounts := make([]arg, len(list))
	for i, d := range list {
		if s.rootless {
			f, err := hostDevice(d)
			if err != nil {
				return &SetupError{"device /dev/" + d.name, err}
			}
			mounts[i] = num(s.pass(s.own(f)))
			s.call(unix.SYS_MKNODAT, s.dev, s.str(d.name), num(unix.S_IFREG|0o666), num(0))
			continue
		}
		mounts[i] = s.word()
		dev := unix.Mkdev(d.major, d.minor)
		s.call(unix.SYS_MKNODAT, s.dev, s.str(d.name), num(unix.S_IFCHR|0o666), num(dev))
		s.clone(s.dev, d.name).into(mounts[i])
	}
	if !s.devices() {
		s.attributes(s.dev, unix.MOUNT_ATTR_NODEV)
	}
	for i, d := range list {
		s.attachAt(mounts[i], d.name)
	}
	return nil
}

// hostDevice clones the mount of a node of the host, having looked that it is the one it says.
func hostDevice(d device) (*os.File, error) {
	fd, err := unix.Open("/dev/"+d.name, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(d.major, d.minor) {
		return nil, fmt.Errorf("not device %d:%d", d.major, d.minor)
	}
	return cloneMount(f, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, Propagation: unix.MS_PRIVATE})
}

// hostDevices are the character devices at the top of the host's /dev, for privileged containers.
func hostDevices() (list []device) {
	known := map[string]bool{"console": true, "ptmx": true}
	for _, d := range devices() {
		known[d.name] = true
	}
	entries, _ := os.ReadDir("/dev")
	for _, e := range entries {
		if e.Type()&os.ModeCharDevice == 0 || known[e.Name()] {
			continue
		}
		var st unix.Stat_t
		if unix.Lstat("/dev/"+e.Name(), &st) == nil {
			list = append(list, device{name: e.Name(), major: unix.Major(st.Rdev), minor: unix.Minor(st.Rdev)})
		}
	}
	return list
}
