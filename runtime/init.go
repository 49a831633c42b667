package runtime

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// An inner process 1 starts the command, hands on the signals it gets, reaps what becomes its child when a parent dies, and
// ends as the command does. It is a program of its own, in an executable of its own: it has the container's rights only, and
// no memory in common with anybody but, until that executes the command, its child. Of ours it has the end of a pipe to write to, by which
// it reports how that went: where others see it they may take that from it, and what comes there decides nothing else.

// initReport leaves process 1 the pipe, and returns the number of its end there.
func (s *setup) initReport() (w int, err error) {
	ours, its, err := os.Pipe()
	if err != nil {
		return 0, &SetupError{"pipe", err}
	}
	s.init = &setup{spec: s.spec, execCandidates: execCandidates{paths: s.paths, report: ours}}
	w = s.pass(s.own(its))
	s.call(unix.SYS_FCNTL, num(w), num(unix.F_SETFD), num(0))
	return w, nil
}

// execInit executes process 1, which has the end of a pipe to report.
func (s *setup) execInit(report int) error {
	tail := s.init.planInit(report)
	file, err := s.init.executable(tail)
	if err != nil {
		return &SetupError{"init", err}
	}
	s.step = "init"
	argv := s.pointers(s.strs(append([]string{"forge-init", "--"}, s.spec.Args...)))
	s.call(unix.SYS_EXECVEAT, num(s.pass(s.own(file))), s.str(""), argv, s.pointers(s.strs(s.spec.Env)), num(unix.AT_EMPTY_PATH))
	return nil
}

// planInit writes the program of process 1. Like the supervisor, it is suspended until its child has executed the command, and
// then reports to the caller.
func (s *setup) planInit(report int) (tail int) {
	s.step = "init"
	all, child := s.words(^uint64(0)), s.word()
	s.results = s.space(8 * len(s.paths))
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_NAME), s.str("forge-init")).allow(anyError)
	s.call(unix.SYS_RT_SIGPROCMASK, num(unix.SIG_SETMASK), all, num(0), num(8))
	// A seccomp filter cannot look into the arguments of clone3, so that container's have none.
	s.call(unix.SYS_CLONE, num(unix.CLONE_VM|unix.CLONE_VFORK|uint64(unix.SIGCHLD)), num(0), num(0), num(0), num(0)).into(child)
	inChild := s.skipIf(child, num(0))

	tail = len(s.ops)
	vec := s.words(0, 16, 0, uint64(8*len(s.paths)))
	s.put(vec, arg{n: headerOp, part: inHeader})
	s.put(vec.plus(16), s.results)
	s.call(unix.SYS_WRITEV, num(report), vec, num(2)).allow(anyError)
	s.call(unix.SYS_CLOSE, num(report)).allow(anyError)
	executed := s.skipIf(arg{n: headerOp, part: inHeader, content: true}, num(0))
	s.call(unix.SYS_EXIT_GROUP, num(127))
	s.endSkip(executed)
	s.reapAndForward(all, child)

	failed := len(s.ops)
	s.call(unix.SYS_EXIT_GROUP, num(127))
	s.endSkip(inChild)
	s.call(opStore, arg{n: headerFail, part: inHeader}, arg{n: uint64(failed), part: inOps})
	s.call(unix.SYS_CLOSE, num(report))
	s.step = "process group"
	s.call(unix.SYS_SETPGID, num(0), num(0))
	if s.spec.Terminal {
		group := s.word()
		s.call(unix.SYS_GETPID).into(group)
		s.call(unix.SYS_IOCTL, num(0), num(unix.TIOCSPGRP), group.addr())
	}
	s.call(unix.SYS_RT_SIGPROCMASK, num(unix.SIG_SETMASK), s.words(0), num(0), num(8))
	s.execCommand()
	return tail
}

// initOutcome waits for the report of process 1, or its end, of which the supervisor tells by its socket.
func (s *setup) initOutcome(supervisor *os.File) error {
	fd := descriptor(s.report)
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(supervisor.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, -1); err == nil {
			break
		} else if err != unix.EINTR {
			return &SetupError{"init", os.NewSyscallError("poll", err)}
		}
	}
	msg, n := make([]byte, s.reportSize()), 0
	if poll[0].Revents&unix.POLLIN != 0 {
		n, _ = unix.Read(fd, msg) // which does not wait, should somebody have taken it
	}
	if n <= 0 {
		return &SetupError{"init", errors.New("it was killed")}
	}
	return s.outcome(msg[:n])
}

// reapAndForward waits for signals without end, but that of the child: with its exit code, or 128 and the signal that
// killed it.
func (s *setup) reapAndForward(signals, child arg) {
	info, signal := s.space(128), s.word()
	again := len(s.ops)
	s.call(unix.SYS_RT_SIGTIMEDWAIT, signals, num(0), num(0), num(8)).into(signal).allow(anyError)

	reap := len(s.ops)
	s.call(opStore, info.plus(16), num(0)) // no process
	none := s.call(unix.SYS_WAITID, num(unix.P_ALL), num(0), info, num(unix.WEXITED|unix.WNOHANG), num(0)).allow(anyError)
	who := s.half(info.plus(16))
	noneYet := s.skipIf(who, num(0))
	its := s.skipIf(who, child)
	s.jumpTo(reap)

	s.endSkip(its)
	status := s.half(info.plus(24))
	exited := s.skipIf(s.half(info.plus(8)), num(1)) // CLD_EXITED
	s.call(opOr, status.addr(), num(128))
	s.endSkip(exited)
	s.call(unix.SYS_EXIT_GROUP, status)

	s.endSkip(none)
	s.endSkip(noneYet)
	noSignal := s.skipIf(signal, num(uint64(unix.SIGCHLD)))
	s.call(unix.SYS_KILL, child, signal).allow(anyError)
	s.endSkip(noSignal)
	s.jumpTo(again)
}

// half copies the 32 bits at an address into a word.
func (s *setup) half(at arg) arg {
	word := s.space(16)
	s.call(opStore, word, at.ref())
	s.call(opStore, word.plus(4), num(0))
	return word.ref()
}

// jumpTo goes on with an op that was added before.
func (s *setup) jumpTo(op int) {
	o := s.jump()
	o.skip = op - o.at - 1
}
