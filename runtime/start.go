package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start runs the process. Cancelling ctx kills everything in the container. It returns once the command has been
// executed; a *SetupError or an *ExecError says that it has not.
func Start(ctx context.Context, s Spec, io Stdio) (*Process, error) {
	set, err := newSetup(ctx, &s)
	if err != nil {
		return nil, err
	}
	defer set.close()
	if s.Isolation == ByChroot {
		if err := set.newChroot(); err != nil {
			return nil, err
		}
		return set.start(ctx, io, set.planChroot)
	}
	if s.ownNetwork() {
		set.netns = newNetns()
	}
	return set.start(ctx, io, set.plan)
}

// newSetup begins a set-up, having looked at what cannot be handed to the kernel.
func newSetup(ctx context.Context, s *Spec) (*setup, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, &SetupError{"command", err}
	}
	if err := s.Limits.check(); err != nil {
		return nil, &SetupError{"limits", err}
	}
	if s.Args[0] == "" { // no directory of PATH has it, although each path that is tried would name the directory itself
		return nil, &ExecError{"", unix.ENOENT}
	}
	paths := s.CommandPaths()
	if len(paths) > maxExecs {
		return nil, &SetupError{"command", fmt.Errorf("PATH has %d directories, at most %d are searched", len(paths), maxExecs)}
	}
	return &setup{spec: s, rootless: inUserNamespace(), execCandidates: execCandidates{paths: paths}}, nil
}

// start writes the program by plan and has it carried out.
func (s *setup) start(ctx context.Context, io Stdio, plan func() (tail int, err error)) (*Process, error) {
	p := &Process{gone: make(chan struct{}), leavings: leavings{places: s.places}}
	defer p.closeOnError()
	if err := s.plumb(p, io); err != nil {
		return nil, err
	}
	if s.target == nil {
		var err error
		if p.cgroup, err = s.newCgroup(); err != nil {
			return nil, &SetupError{"limits", err}
		}
		s.cgroup, p.killRest = p.cgroup, s.sharesPID() || s.places != nil
	} else {
		p.grace = outputGrace
	}
	tail, err := plan()
	if err != nil {
		return nil, err
	}
	if err := s.launch(p, tail); err != nil {
		return nil, err
	}
	p.ctx, p.stop = ctx, context.AfterFunc(ctx, p.kill)
	if err := p.follow(s, io); err != nil {
		p.kill()
		p.reap()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	p.running = true
	return p, nil
}

// check finds what cannot be handed to the kernel.
func (s *Spec) check() error {
	if len(s.Args) == 0 {
		return errors.New("there is none")
	}
	for _, list := range [][]string{s.Args, s.Env, {s.Dir, s.Hostname, s.Domainname}} {
		for _, text := range list {
			if strings.Contains(text, "\x00") {
				return fmt.Errorf("%q has a zero byte", text)
			}
		}
	}
	return nil
}

// follow sees the set-up through, doing what can be done beside it.
func (p *Process) follow(s *setup, io Stdio) error {
	s.closeOwned()
	if err := s.sendNetwork(p); err != nil {
		return err
	}
	if s.cgroup != nil {
		s.spec.Host.sweep(s.cgroup.parent)
	}
	return p.started(s, io)
}

// plumb makes the socket to the supervisor and the process's stdio.
func (s *setup) plumb(p *Process, io Stdio) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return &SetupError{"socketpair", err}
	}
	p.sock = os.NewFile(uintptr(pair[0]), "supervisor")
	theirs := s.own(os.NewFile(uintptr(pair[1]), "supervisor"))
	// What is not set holds the socket until the program puts /dev/null there: a closed number would be taken by
	// the next file it opens.
	s.files = []uintptr{theirs.Fd(), theirs.Fd(), theirs.Fd(), theirs.Fd(), theirs.Fd()}
	return s.stdio(p, io)
}

// plan writes the program. The order is explained in docs/runtime.md.
func (s *setup) plan() (tail int, err error) {
	caps, filter, flags, err := s.confinement()
	if err != nil {
		return 0, err
	}
	if err := s.enterPID(); err != nil {
		return 0, err
	}
	tail = s.supervisor()
	if err := s.joinCgroup(); err != nil {
		return 0, err
	}
	s.oomScore()
	s.enterNamespaces()
	s.step = "umask"
	s.call(unix.SYS_UMASK, num(0))
	if err := s.mountAll(); err != nil {
		return 0, err
	}
	s.stdin()
	s.pivot(caps)
	s.enterDir()
	s.hostname()
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
	if s.spec.Init {
		report, err := s.initReport()
		if err != nil {
			return 0, err
		}
		s.confine(caps, filter, flags)
		return tail, s.execInit(report)
	}
	s.confine(caps, filter, flags)
	s.execCommand()
	return tail, nil
}

// hostname sets the names of the container, unless they are another's.
func (s *setup) hostname() {
	if !s.spec.Shared.UTS.own() {
		return
	}
	if h := s.spec.Hostname; h != "" {
		s.step = "hostname " + h
		s.call(unix.SYS_SETHOSTNAME, s.str(h), num(len(h)))
	}
	if d := s.spec.Domainname; d != "" {
		s.step = "domain name " + d
		s.call(unix.SYS_SETDOMAINNAME, s.str(d), num(len(d)))
	}
}

// confinement is what the process may do: its capabilities and its seccomp filter.
func (s *setup) confinement() (caps capabilities, filter []unix.SockFilter, flags uint, err error) {
	caps, missing, err := containerCapabilities(&s.spec.Security)
	if err != nil {
		return caps, nil, 0, err
	}
	for _, name := range missing {
		s.warn("Capability " + name + " cannot be added: forge itself does not have it.")
	}
	c, err := s.spec.Host.seccompFilter(&s.spec.Security, caps.bounding)
	return caps, c.prog, c.flags, err
}

// session begins a session, with the terminal if there is one.
func (s *setup) session() {
	s.step = "session"
	s.call(unix.SYS_SETSID)
	if s.spec.Terminal {
		s.step = "controlling terminal"
		s.call(unix.SYS_IOCTL, num(0), num(unix.TIOCSCTTY), num(0))
	}
}

// keyring leaves the caller's keys.
func (s *setup) keyring() {
	s.step = "session keyring"
	s.call(unix.SYS_KEYCTL, num(unix.KEYCTL_JOIN_SESSION_KEYRING), num(0)).allow(errnos(unix.ENOSYS, unix.EPERM))
}

// cloneArgs are the arguments of clone3 for a process in the container's cgroup, if that is of version 2.
func (s *setup) cloneArgs(flags uint64) arg {
	group := uint64(0)
	if s.cgroup != nil && s.cgroup.unified != nil {
		flags |= unix.CLONE_INTO_CGROUP
		group = uint64(s.pass(s.cgroup.unified))
	}
	return s.words(flags, 0, 0, 0, uint64(unix.SIGCHLD), 0, 0, 0, 0, 0, group)
}

// What the supervisor says of the end: a siginfo_t and a struct rusage, of waitid(2).
const (
	infoSize = 128
	endSize  = infoSize + 144
)

// supervisor is what the outer process does: it makes the container's process, reports how that went, waits until it or the
// caller is gone, reports how it ended, and ends. It returns the op to go on with when one fails.
func (s *setup) supervisor() (tail int) {
	s.shelter()
	s.openSelf()
	s.step = "clone"
	// Until there is a pidfd, any descriptor but the socket stands for it.
	pid, poll, info := s.word(), s.words(interpreterFD|unix.POLLIN<<32, sockFD|unix.POLLIN<<32), s.space(endSize)
	const flags = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD
	if s.places != nil {
		s.call(unix.SYS_CLONE, num(flags|uint64(unix.SIGCHLD)), num(0), poll).into(pid)
	} else {
		args := s.cloneArgs(flags | s.newNamespaces())
		s.put(args.plus(8), poll) // the pidfd goes where poll looks for it
		s.call(unix.SYS_CLONE3, args, num(88)).into(pid)
	}
	child := s.skipIf(pid, num(0))

	// While the child set up, which shares its memory, this process was suspended; header and results are its.
	tail = len(s.ops)
	s.step = "supervisor"
	s.results = s.space(8 * len(s.paths))
	vec := s.words(0, 16, 0, uint64(8*len(s.paths)))
	s.put(vec, arg{n: headerOp, part: inHeader})
	s.put(vec.plus(16), s.results)
	control := s.control(poll.ref())
	msg := s.words(0, 0, 0, 2, 0, 24, 0)
	s.put(msg.plus(16), vec)
	s.put(msg.plus(32), control)
	s.call(unix.SYS_SENDMSG, num(sockFD), msg, num(unix.MSG_NOSIGNAL)).allow(anyError)
	s.call(unix.SYS_CLOSE_RANGE, num(0), num(interpreterFD), num(0)).allow(anyError)
	s.call(unix.SYS_DUP3, poll.ref(), num(pidfdFD), num(0)).allow(anyError)
	s.call(unix.SYS_CLOSE_RANGE, num(copiesFD+s.places.copied()), num(^uint32(0)), num(0)).allow(anyError)
	s.call(opStore, poll, num(pidfdFD|unix.POLLIN<<32))
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_NAME), s.str("forge-supervise")).allow(anyError) // else it is "3"
	before := s.word()
	s.call(opStore, before.addr(), poll.ref())
	s.call(unix.SYS_PPOLL, poll.addr(), num(2), num(0), num(0)).allow(anyError)
	abandoned := s.skipIf(poll.ref(), before) // nothing about the pidfd: it is the socket that was closed
	// It waits, although the process has ended: where it is traced (strace -f), the tracer learns of it first.
	s.call(unix.SYS_WAITID, num(unix.P_PID), pid, info, num(unix.WEXITED), info.plus(infoSize)).allow(anyError)
	s.call(unix.SYS_SENDTO, num(sockFD), info, num(endSize), num(unix.MSG_NOSIGNAL), num(0), num(0)).allow(anyError)
	reported := s.jump()
	s.endSkip(abandoned)
	if s.mayOutlive() {
		s.call(unix.SYS_PIDFD_SEND_SIGNAL, num(pidfdFD), num(unix.SIGKILL), num(0), num(0)).allow(anyError)
		s.call(unix.SYS_WAITID, num(unix.P_PID), pid, info, num(unix.WEXITED), num(0)).allow(anyError)
	}
	s.endSkip(reported)
	if s.places != nil {
		s.reapRest()
	}
	s.call(unix.SYS_EXIT_GROUP, num(0))

	failed := len(s.ops)
	s.call(unix.SYS_EXIT_GROUP, num(127))
	s.endSkip(child)
	s.call(opStore, arg{n: headerFail, part: inHeader}, arg{n: uint64(failed), part: inOps})
	s.endWithSupervisor()
	return tail
}

// mayOutlive reports whether the container has no pid namespace that ends with the supervisor.
func (s *setup) mayOutlive() bool { return s.sharesPID() || s.places != nil }

// openSelf opens what tells the process when the supervisor is gone.
func (s *setup) openSelf() {
	if !s.mayOutlive() {
		return
	}
	s.self = s.word()
	s.call(unix.SYS_GETPID).into(s.self)
	s.call(unix.SYS_PIDFD_OPEN, s.self, num(0)).into(s.self).allow(anyError) // gVisor has none
}

// endWithSupervisor has a process end with its supervisor where no pid namespace does that, and at once if that is gone already. The kernel
// forgets the former when the process becomes another user.
func (s *setup) endWithSupervisor() {
	if !s.mayOutlive() {
		return
	}
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_PDEATHSIG), num(unix.SIGKILL))
	s.endIfReady(s.self, unix.POLLIN)
}

// endIfReady ends the process if a descriptor is ready for one of some events. One that is negative never is.
func (s *setup) endIfReady(fd arg, events uint64) {
	poll, before := s.words(0, 0), s.word()
	s.call(opStore, poll, fd)
	s.call(opStore, poll.plus(4), num(events))
	s.call(opStore, before.addr(), poll.ref())
	s.call(unix.SYS_PPOLL, poll, num(1), s.words(0, 0), num(0), num(0)).allow(anyError)
	waits := s.skipIf(poll.ref(), before)
	s.call(unix.SYS_EXIT_GROUP, num(127))
	s.endSkip(waits)
}

// enterDir changes to the working directory, and makes sure that it lies within the root: from a directory outside,
// getcwd answers "(unreachable)".
func (s *setup) enterDir() {
	dir := s.spec.Dir
	if dir == "" {
		return
	}
	s.step = "working directory " + dir
	fd, buf := s.word(), s.space(4096)
	if s.spec.Isolation == ByChroot { // the root is that of this process, there is no procfs in it, and maybe no openat2 (gVisor)
		s.call(unix.SYS_OPENAT, num(unix.AT_FDCWD), s.str(dir), num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), num(0)).into(fd)
	} else {
		s.inRoot(s.root, dir, unix.O_DIRECTORY).into(fd)
	}
	s.call(unix.SYS_FCHDIR, fd)
	s.call(unix.SYS_GETCWD, buf, num(4096))
	first := uint64(binary.NativeEndian.Uint64([]byte{0xff, 0, 0, 0, 0, 0, 0, 0}))
	slash := uint64(binary.NativeEndian.Uint64([]byte{'/', 0, 0, 0, 0, 0, 0, 0}))
	s.call(opExpect, buf.ref(), num(first), num(slash), num(unix.EXDEV))
}

// shelter has a supervisor live as long as its process, and keeps others from it. Who ends a whole session or service, as systemd does
// with SIGTERM, leaves the container time to end. A process that sets up shares the supervisor's memory, has no more rights than a
// container in the end, and is seen by containers that have the host's pid namespace, or the one it is made in.
func (s *setup) shelter() {
	s.step = "signals"
	s.call(unix.SYS_RT_SIGPROCMASK, num(unix.SIG_SETMASK), s.words(^uint64(0)), num(0), num(8))
	s.step = "memory of its own"
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0)) // the command is dumpable again, as execve makes it so
}

// signals gives the process default dispositions and an empty mask: what the caller ignores is not the container's.
func (s *setup) signals() {
	s.step = "signals"
	action, mask := s.space(32), s.space(8)
	for sig := 1; sig <= 64; sig++ { // with those of real time
		s.call(unix.SYS_RT_SIGACTION, num(sig), action, num(0), num(8)).allow(errnos(unix.EINVAL))
	}
	s.call(unix.SYS_RT_SIGPROCMASK, num(unix.SIG_SETMASK), mask, num(0), num(8))
}

// launch starts the supervisor. The caller's thread is suspended only until the interpreter is executed.
func (s *setup) launch(p *Process, tail int) error {
	file, err := s.executable(tail)
	if err != nil {
		return &SetupError{"interpreter", err}
	}
	defer file.Close()
	s.files[interpreterFD] = file.Fd()
	sys := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if s.target != nil || s.sharesPID() || s.places != nil { // a pid namespace that is not below its own could not be entered
		sys = &syscall.SysProcAttr{Setsid: true} // what is typed to interrupt the caller is not for the supervisor
	}
	pid, err := syscall.ForkExec("/proc/self/fd/3", []string{"forge-supervise"}, &syscall.ProcAttr{Files: s.files, Sys: sys})
	if err != nil {
		return &SetupError{"clone", err}
	}
	p.supervisor = pid
	return nil
}
