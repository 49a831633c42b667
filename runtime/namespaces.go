package runtime

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespaces of the container that it shares with others. The network namespace is chosen by [Network].
type Namespaces struct {
	IPC    Namespace // with what is mounted at /dev/shm
	PID    Namespace
	UTS    Namespace // then Hostname and Domainname do not count
	Cgroup Namespace // never another container's
}

// A Namespace says whose it is. Zero is the container's own.
type Namespace struct {
	Host bool    // this process's
	Of   *Target // another container's
}

// own reports whether the namespace is made for the container.
func (n Namespace) own() bool { return !n.Host && n.Of == nil }

// newNamespaces are the flags of clone(2) for those that are made for the container.
func (s *setup) newNamespaces() uint64 {
	flags := uint64(unix.CLONE_NEWNS)
	for _, n := range []struct {
		Namespace
		flag uint64
	}{
		{s.spec.Shared.PID, unix.CLONE_NEWPID},
		{s.spec.Shared.IPC, unix.CLONE_NEWIPC},
		{s.spec.Shared.UTS, unix.CLONE_NEWUTS},
	} {
		if n.own() {
			flags |= n.flag
		}
	}
	return flags
}

// sharesPID reports whether others see the container's processes.
func (s *setup) sharesPID() bool { return !s.spec.Shared.PID.own() }

// enterPID has the supervisor's children made in the pid namespace of another container. In there, they are seen before they
// have given up their rights; they share the supervisor's memory. The kernel keeps everybody from it who has not the right
// to trace, and a container that has it is refused.
func (s *setup) enterPID() error {
	t := s.spec.Shared.PID.Of
	if t == nil {
		return nil
	}
	s.step = "pid namespace"
	status, err := os.ReadFile("/proc/" + strconv.Itoa(t.Pid) + "/status")
	if err != nil || t.gone(0) {
		return &SetupError{s.step, os.ErrProcessDone}
	}
	_, bounding, _ := strings.Cut(string(status), "\nCapBnd:\t")
	bounding, _, _ = strings.Cut(bounding, "\n")
	if set, err := strconv.ParseUint(bounding, 16, 64); err != nil || set&(1<<unix.CAP_SYS_PTRACE) != 0 {
		return &SetupError{s.step, errors.New("of a container that may trace others (CAP_SYS_PTRACE): it could take over what is started in it")}
	}
	s.call(unix.SYS_SETNS, num(s.pass(t.pidfd)), num(unix.CLONE_NEWPID))
	return nil
}

// enterNamespaces joins those of other containers, and makes the cgroup namespace.
func (s *setup) enterNamespaces() {
	for _, n := range []struct {
		*Target
		flag int
		name string
	}{
		{s.spec.Shared.IPC.Of, unix.CLONE_NEWIPC, "ipc"},
		{s.spec.Shared.UTS.Of, unix.CLONE_NEWUTS, "uts"},
	} {
		if n.Target != nil {
			s.step = n.name + " namespace"
			s.call(unix.SYS_SETNS, num(s.pass(n.pidfd)), num(n.flag))
		}
	}
	if t := s.spec.Shared.IPC.Of; t != nil {
		s.borrowSharedMemory(t)
	}
	if s.spec.Shared.Cgroup.own() {
		s.step = "cgroup namespace"
		s.call(unix.SYS_UNSHARE, num(unix.CLONE_NEWCGROUP))
	}
}

// borrowSharedMemory takes what another container has mounted at /dev/shm: it can be cloned only in the mount namespace it is
// in. The way back is to the root of this one, so that nothing may be mounted on that yet.
func (s *setup) borrowSharedMemory(t *Target) {
	s.step = "shared memory of the ipc namespace"
	back := s.word()
	s.shm = s.word()
	s.call(unix.SYS_OPENAT, num(unix.AT_FDCWD), s.str("/proc/self/ns/mnt"), num(unix.O_RDONLY|unix.O_CLOEXEC), num(0)).into(back)
	s.call(unix.SYS_SETNS, num(s.pass(t.pidfd)), num(unix.CLONE_NEWNS))
	s.clone(num(unix.AT_FDCWD), "/dev/shm").into(s.shm)
	s.call(unix.SYS_SETNS, back, num(unix.CLONE_NEWNS))
}

// sharedMemory is what to mount at /dev/shm.
func (s *setup) sharedMemory() (mount arg, err error) {
	switch n := s.spec.Shared.IPC; {
	case n.Host:
		f, err := os.Open("/dev/shm")
		if err != nil {
			return arg{}, &SetupError{s.step, err}
		}
		defer f.Close()
		clone, err := cloneMount(f, &unix.MountAttr{Attr_set: noSuidExec, Propagation: unix.MS_PRIVATE})
		if err != nil {
			return arg{}, &SetupError{s.step, err}
		}
		return num(s.pass(s.own(clone))), nil
	case n.Of != nil:
		return s.shm, nil
	}
	size := s.spec.Limits.ShmSize
	if size == 0 {
		size = DefaultShm
	}
	return s.newMount("tmpfs", noSuidExec, tmpfsOptions(size, 0)...), nil
}

// killAll kills every process in the directories of a cgroup: those that no pid namespace takes with it.
func killAll(dirs []string) {
	if file := fileIn(dirs, "cgroup.kill"); file != "" {
		_ = writeLines(file, []string{"1"})
		return
	}
	for range 100 { // while they multiply
		pids := members(dirs)
		if len(pids) == 0 {
			return
		}
		for some := range slices.Chunk(pids, 100) { // as each is open for a moment
			killMembers(dirs, some)
		}
	}
}

// killMembers kills those of some processes that are in the directories of a cgroup.
func killMembers(dirs []string, pids []int) {
	open := map[int]int{}
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			open[pid] = fd
		}
	}
	for _, pid := range members(dirs) { // whose number is still that of one of them
		if fd, ok := open[pid]; ok {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
	}
	for _, fd := range open {
		unix.Close(fd)
	}
}
