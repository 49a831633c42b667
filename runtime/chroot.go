package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// newChroot prepares the root directory of a process that is isolated by chroot, or says why that cannot be done.
func (s *setup) newChroot() (err error) {
	switch {
	case s.spec.Network.Mode != "host":
		err = errors.New("a network of its own takes a network namespace")
	case s.spec.Security.Privileged:
		err = errors.New("a privileged process would be privileged outside of its root directory, too")
	case s.spec.Terminal, s.spec.Init, s.spec.Shared != Namespaces{}, s.spec.Security.ReadOnlyRoot, len(s.spec.Sysctls) > 0:
		err = errors.New("that takes namespaces")
	}
	if err == nil {
		s.places, err = newPlaces(s.spec.Root)
	}
	if err != nil {
		return &SetupError{"isolation by chroot", err}
	}
	for i := range s.spec.Mounts {
		m := &s.spec.Mounts[i]
		if err := s.places.add(m); err != nil {
			return &SetupError{"put into " + m.Target, errors.Join(err, s.places.remove())}
		}
	}
	return nil
}

// planChroot writes the program of a process that has a root directory and no namespaces. The order is that of plan, as far as
// there is anything to do.
func (s *setup) planChroot() (tail int, err error) {
	caps, filter, flags, err := s.confinement()
	if err != nil {
		return 0, err
	}
	// Who has it gets out of a root directory, and who has less than others can trace none of them, this process among them.
	caps.bounding &^= 1 << unix.CAP_SYS_CHROOT
	if caps.own&(1<<unix.CAP_SETPCAP) == 0 {
		s.warn("A process of a build can leave its root directory: forge lacks CAP_SETPCAP, which it takes to give up CAP_SYS_CHROOT for good.")
		caps.bounding = ^uint64(0)
	}
	if caps.own&(1<<unix.CAP_SYS_ADMIN) == 0 {
		filter = nil // the kernel takes none from us; that of the container around is in force
	}
	s.step = "process"
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_CHILD_SUBREAPER), num(1))
	s.root = num(s.pass(s.spec.Root))
	for _, f := range s.places.copies { // behind the number that the supervisor gives the pidfd
		s.pass(f)
	}
	tail = s.supervisor()
	if s.cgroup != nil && s.cgroup.unified != nil { // only clone3 can do that, which profiles of seccomp refuse
		s.cgroup.join = append(s.cgroup.join, filepath.Join(s.cgroup.dirs[0], "cgroup.procs"))
	}
	if err := s.joinCgroup(); err != nil {
		return 0, err
	}
	s.oomScore()
	s.step = "stdio"
	null := s.word()
	s.call(unix.SYS_OPENAT, num(unix.AT_FDCWD), s.str(os.DevNull), num(unix.O_RDWR|unix.O_CLOEXEC), num(0)).into(null)
	s.useNull(null)
	s.step = "chroot"
	s.call(unix.SYS_FCHDIR, s.root)
	s.call(unix.SYS_CHROOT, s.str("."))
	s.enterDir()
	if err := s.limits(caps); err != nil {
		return 0, err
	}
	s.session()
	s.keyring()
	if err := s.becomeUser(caps); err != nil {
		return 0, err
	}
	s.step = "umask"
	s.call(unix.SYS_UMASK, num(0o022))
	s.endWithSupervisor()
	s.signals()
	s.step = "close descriptors"
	s.call(unix.SYS_CLOSE_RANGE, num(3), num(^uint32(0)), num(unix.CLOSE_RANGE_CLOEXEC))
	s.confine(caps, filter, flags)
	s.execCommand()
	return tail, nil
}

// reapRest ends a supervisor whose process has no pid namespace that would end with it: when the caller says that it has killed
// all that the process has started, or else, as the caller is gone, by doing so itself.
func (s *setup) reapRest() {
	said := s.word()
	s.call(unix.SYS_RECVFROM, num(sockFD), s.space(8), num(1), num(0), num(0), num(0)).into(said).allow(anyError)
	told := s.skipIf(said, num(1))
	if self, err := os.Executable(); err == nil {
		args := []string{reaperName}
		for i := range s.places.copies {
			args = append(args, strconv.Itoa(copiesFD+i))
		}
		s.call(unix.SYS_EXECVE, s.str(self), s.pointers(s.strs(args)), s.pointers(nil)).allow(anyError)
	}
	s.endSkip(told)
}

// reaperName is what a supervisor calls this program that it executes, when its caller is gone, to kill what has been started.
const reaperName = "forge-reap"

// IsReaper reports whether this process was executed by a supervisor, and is to do nothing but call Reap.
func IsReaper() bool { return os.Args[0] == reaperName }

// Reap kills all descendants of this process, and empties the files whose descriptors are its arguments. It looks for none by its path,
// which those may have led elsewhere: the names are in a directory that a prune sweeps.
func Reap() {
	killDescendants(os.Getpid())
	for _, fd := range os.Args[1:] {
		_ = os.Truncate("/proc/self/fd/"+fd, 0)
	}
}

// killDescendants kills all that a process has started, directly or not, until there is nothing. Those whose parents are gone
// are its children, as it is a subreaper.
func killDescendants(ancestor int) {
	for killOnce(ancestor) > 0 {
		time.Sleep(time.Millisecond)
	}
}

// killOnce kills the descendants that a process has now, and returns how many those were.
func killOnce(ancestor int) (left int) {
	parents := map[int]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
		// pid (name) state ppid: there may be anything in the name.
		_, rest, _ := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), " ")
		if f := strings.Fields(rest); len(f) > 1 && f[0] != "Z" {
			parents[pid], _ = strconv.Atoi(f[1])
		}
	}
	for pid := range parents {
		for up := parents[pid]; up > 1; up = parents[up] {
			if up == ancestor {
				left++
				_ = unix.Kill(pid, unix.SIGKILL)
				break
			}
		}
	}
	return left
}
