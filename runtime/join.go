package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Join runs a further process in a running container: in its namespaces and cgroups, with its root directory. Of the Spec
// count Args, Env, Dir, User, Terminal, Security, Ulimits, OOMScoreAdj and Warn. Cancelling ctx kills the process; what it started
// itself lives on, as long as the container. It returns once the command has been executed; a *SetupError or an *ExecError says
// that it has not, and os.ErrProcessDone that the container has ended.
func Join(ctx context.Context, t *Target, s Spec, io Stdio) (*Process, error) {
	flags, err := t.namespaces()
	if err != nil {
		return nil, err
	}
	set, err := newSetup(ctx, &s)
	if err != nil {
		return nil, err
	}
	defer set.close()
	set.target = t
	p, err := set.start(ctx, io, func() (int, error) { return set.planJoin(flags) })
	if err != nil && ctx.Err() == nil && t.ended(err) {
		return nil, os.ErrProcessDone
	}
	return p, err
}

// ended reports whether an error of joining means that the container has ended, or is about to: its first process gives
// up its namespaces before it is seen to be gone, and in its pid namespace there is no memory for another.
func (t *Target) ended(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOMEM) && t.gone(100*time.Millisecond) || t.gone(0)
}

// outputGrace is how long [Process.Wait] goes on reading what processes write that outlive the one that started them.
const outputGrace = 2 * time.Second

// namespaces are the flags of setns(2) for those of the container's namespaces that are not this process's. In one that it
// is in already it may not be allowed to enter.
func (t *Target) namespaces() (flags int, err error) {
	for name, flag := range map[string]int{
		"mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC,
		"uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP, "user": unix.CLONE_NEWUSER,
	} {
		own, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			return 0, &SetupError{"namespaces", err}
		}
		its, err := os.Readlink("/proc/" + strconv.Itoa(t.Pid) + "/ns/" + name)
		if errors.Is(err, os.ErrNotExist) || t.gone(0) { // the number may be another's
			return 0, os.ErrProcessDone
		}
		if err != nil {
			return 0, &SetupError{"namespaces", err}
		}
		if own != its {
			flags |= flag
		}
	}
	if flags&unix.CLONE_NEWUSER != 0 {
		return 0, &SetupError{"user namespace", errOtherNamespace}
	}
	return flags, nil
}

// reportPipe passes a pipe to the supervisor, by which it learns how the set-up went: nothing comes, and the end, when the
// command is executed. It returns the number of the reading end there; the writing end has the next.
func (s *setup) reportPipe() (read int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, &SetupError{"pipe", err}
	}
	read = s.pass(s.own(r))
	s.pass(s.own(w))
	return read, nil
}

// planJoin writes the program. There are three processes: the supervisor, outside of the container; a helper, which joins
// and becomes the container's user, but for the pid namespace: the container cannot see it; and the helper's child in there,
// which has no more rights than the container has, no memory in common with anybody and no descriptor of ours when it appears. A
// container with CAP_SYS_PTRACE may do with it what it likes, and gains nothing. docs/runtime.md says more.
func (s *setup) planJoin(namespaces int) (tail int, err error) {
	caps, filter, flags, err := s.confinement()
	if err != nil {
		return 0, err
	}
	report, err := s.reportPipe()
	if err != nil {
		return 0, err
	}
	if err := s.findCgroup(); err != nil {
		return 0, err
	}
	tail, child := s.joinSupervisor(report)
	if err := s.joinCgroup(); err != nil {
		return 0, err
	}
	s.oomScore()
	s.step = "join namespaces"
	s.call(unix.SYS_SETNS, num(s.pass(s.target.pidfd)), num(namespaces))
	s.root = s.word()
	s.call(unix.SYS_OPENAT, num(unix.AT_FDCWD), s.str("/"), num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), num(0)).into(s.root)
	s.call(unix.SYS_FCHDIR, s.root)
	s.joinStdio()
	s.enterDir()
	if err := s.limits(caps); err != nil {
		return 0, err
	}
	s.keyring()
	if err := s.becomeUser(caps); err != nil {
		return 0, err
	}
	s.step = "umask"
	s.call(unix.SYS_UMASK, num(0o022))
	s.signals()
	s.step = "close descriptors"
	w := report + 1
	s.call(unix.SYS_CLOSE_RANGE, num(3), num(w-1), num(0))
	s.call(unix.SYS_CLOSE_RANGE, num(w+1), num(^uint32(0)), num(0))
	s.call(unix.SYS_CLOSE_RANGE, num(w), num(w), num(unix.CLOSE_RANGE_CLOEXEC))
	s.confine(caps, filter, flags)

	s.step = "clone"
	s.call(unix.SYS_CLONE, num(unix.CLONE_PARENT|uint64(unix.SIGCHLD)), num(0), num(0), num(0), num(0)).into(child)
	inside := s.skipIf(child, num(0))
	s.call(unix.SYS_EXIT_GROUP, num(0))
	s.endSkip(inside)
	// Whoever kills the supervisor kills the process, else it would be nobody's. If it was killed before, nobody reads reports.
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_PDEATHSIG), num(unix.SIGKILL)).allow(anyError)
	s.endIfReady(num(w), 0)
	s.session()
	s.execCommand()
	return tail, nil
}

// joinSupervisor is what the outer process does: it makes the helper, passes on its report, waits until the process or the
// caller is gone, kills the process if it is the caller, reports how it ended, and ends. It returns the op to go on with when one
// fails, and where the helper notes the number of the process.
func (s *setup) joinSupervisor(report int) (tail int, child arg) {
	s.shelter()
	s.step = "clone"
	child = s.word()
	helper, info := s.word(), s.space(infoSize)
	s.results = s.space(8 * len(s.paths))
	failure := s.words(0, 16, 0, uint64(8*len(s.paths))) // two struct iovec
	s.put(failure, arg{n: headerOp, part: inHeader})
	s.put(failure.plus(16), s.results)
	s.call(unix.SYS_CLONE3, s.cloneArgs(unix.CLONE_VM|unix.CLONE_VFORK), num(88)).into(helper)
	inHelper := s.skipIf(helper, num(0))
	parent := s.jump()
	tail = len(s.ops)
	s.call(unix.SYS_WRITEV, num(report+1), failure, num(2)).allow(anyError)
	s.endSkip(parent)

	s.step = "supervisor"
	s.call(unix.SYS_WAITID, num(unix.P_PID), helper, info, num(unix.WEXITED), num(0)).allow(anyError)
	s.call(unix.SYS_CLOSE_RANGE, num(report+1), num(^uint32(0)), num(0)).allow(anyError)
	pidfd := s.word()
	none := s.call(unix.SYS_PIDFD_OPEN, child, num(0)).into(pidfd).allow(anyError)
	there := s.jump()
	s.endSkip(none)
	s.call(opStore, pidfd.addr(), num(interpreterFD)) // any but the socket does: the report says that there is no process
	s.endSkip(there)
	started := s.poll(num(report))
	// What a process of the container may have written here is read by nobody but the caller.
	text := s.space(s.reportSize())
	s.call(unix.SYS_READ, num(report), text, num(s.reportSize())).allow(anyError)
	s.reportWith(pidfd, text)
	s.call(unix.SYS_CLOSE_RANGE, num(0), num(interpreterFD), num(0)).allow(anyError)
	s.call(unix.SYS_CLOSE, num(report)).allow(anyError)
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_NAME), s.str("forge-supervise")).allow(anyError)
	ended := s.poll(pidfd)
	s.call(unix.SYS_WAITID, num(unix.P_PID), child, info, num(unix.WEXITED), num(0)).allow(anyError)
	s.call(unix.SYS_SENDTO, num(sockFD), info, num(infoSize), num(unix.MSG_NOSIGNAL), num(0), num(0)).allow(anyError)
	s.call(unix.SYS_EXIT_GROUP, num(0))
	s.endSkip(started)
	s.endSkip(ended)
	s.call(unix.SYS_PIDFD_SEND_SIGNAL, pidfd, num(unix.SIGKILL), num(0), num(0)).allow(anyError)
	s.call(unix.SYS_WAITID, num(unix.P_PID), child, info, num(unix.WEXITED), num(0)).allow(anyError)
	s.call(unix.SYS_EXIT_GROUP, num(0))

	failed := len(s.ops)
	s.call(unix.SYS_WRITEV, num(report+1), failure, num(2)).allow(anyError)
	s.call(unix.SYS_EXIT_GROUP, num(127))
	s.endSkip(inHelper)
	s.call(opStore, arg{n: headerFail, part: inHeader}, arg{n: uint64(failed), part: inOps})
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_PDEATHSIG), num(unix.SIGKILL))
	return tail, child
}

// poll waits for a descriptor or the caller's end, and leaves out what follows if it is the latter.
func (s *setup) poll(fd arg) (abandoned *op) {
	poll := s.words(0, 0)
	s.call(opStore, poll, fd)
	// The upper half of the first word and the lower of the second: what to wait for, and the number of the socket.
	s.call(opStore, poll.plus(4), num(unix.POLLIN|sockFD<<32))
	s.call(opStore, poll.plus(12), num(unix.POLLIN))
	before := s.word()
	s.call(opStore, before.addr(), poll.ref())
	s.call(unix.SYS_PPOLL, poll, num(2), num(0), num(0)).allow(anyError)
	return s.skipIf(poll.ref(), before)
}

// reportWith sends the caller a report, and the descriptor of the process if there is one.
func (s *setup) reportWith(pidfd, text arg) {
	s.sendWith(text, s.reportSize(), s.control(pidfd)).allow(anyError)
}

// findCgroup opens the container's cgroup if it is of version 2, to clone into, and names the files to write to of version
// 1.
func (s *setup) findCgroup() error {
	s.cgroup = &cgroup{}
	for i, dir := range s.target.Cgroups {
		f, err := os.Open(dir)
		if i > 0 && errors.Is(err, os.ErrNotExist) {
			continue // a freezer that was not needed so far
		}
		if err != nil {
			return &SetupError{"cgroup", err}
		}
		s.own(f)
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			return &SetupError{"cgroup " + dir, err}
		}
		if st.Type == unix.CGROUP2_SUPER_MAGIC {
			s.cgroup.unified = f
		} else {
			s.cgroup.join = append(s.cgroup.join, filepath.Join(dir, "tasks"))
		}
	}
	return nil
}

// joinStdio opens what standard input, output and error need of the container's file systems. These are in its hands, so that
// all is looked at before and after: a pipe in place of a device would make the open wait for ever.
func (s *setup) joinStdio() {
	if s.spec.Terminal {
		s.step = "terminal"
		s.devpts = s.word()
		s.beneath(s.root, "dev/pts", unix.O_DIRECTORY).into(s.devpts)
		buf := s.space(128)
		s.call(unix.SYS_FSTATFS, s.devpts, buf)
		s.call(opExpect, buf.ref(), num(^uint64(0)), num(unix.DEVPTS_SUPER_MAGIC), num(unix.ENOTTY))
		s.pty()
		s.stdin()
		return
	}
	if s.set == [3]bool{true, true, true} {
		return
	}
	s.step = "stdio"
	null, stat := s.word(), s.space(256)
	how := s.how(unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	s.call(unix.SYS_OPENAT2, s.root, s.str("dev/null"), how, num(sizeofHow)).into(null)
	s.call(unix.SYS_STATX, null, s.str(""), num(unix.AT_EMPTY_PATH), num(unix.STATX_TYPE), stat)
	s.call(opExpect, stat.plus(24).ref(), num(uint64(unix.S_IFMT)<<32), num(uint64(unix.S_IFCHR)<<32), num(unix.ENODEV))
	s.call(opExpect, stat.plus(128).ref(), num(^uint64(0)), num(1|3<<32), num(unix.ENODEV))
	s.useNull(null)
}
