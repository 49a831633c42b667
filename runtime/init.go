package runtime

import "golang.org/x/sys/unix"

// An inner process 1 starts the command, hands on the signals it gets, reaps what becomes its child when a parent dies, and
// ends as the command does. It is a program of its own, in an executable of its own: it has the container's rights only, and
// no memory in common with anybody but, until that executes the command, its child.

// execInit executes process 1.
func (s *setup) execInit() error {
	s.init = &setup{spec: s.spec}
	tail := s.init.planInit()
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
func (s *setup) planInit() (tail int) {
	s.step = "init"
	all, child := s.words(^uint64(0)), s.word()
	s.results = s.space(8 * maxExecs)
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_NAME), s.str("forge-init")).allow(anyError)
	s.call(unix.SYS_RT_SIGPROCMASK, num(unix.SIG_SETMASK), all, num(0), num(8))
	// A seccomp filter cannot look into the arguments of clone3, so that container's have none.
	s.call(unix.SYS_CLONE, num(unix.CLONE_VM|unix.CLONE_VFORK|uint64(unix.SIGCHLD)), num(0), num(0), num(0), num(0)).into(child)
	inChild := s.skipIf(child, num(0))

	tail = len(s.ops)
	vec := s.words(0, 16, 0, 8*maxExecs)
	s.put(vec, arg{n: headerOp, part: inHeader})
	s.put(vec.plus(16), s.results)
	msg := s.words(0, 0, 0, 2, 0, 0, 0)
	s.put(msg.plus(16), vec)
	s.call(unix.SYS_SENDMSG, num(sockFD), msg, num(unix.MSG_NOSIGNAL)).allow(anyError)
	s.call(unix.SYS_CLOSE, num(sockFD)).allow(anyError)
	executed := s.skipIf(arg{n: headerOp, part: inHeader, content: true}, num(0))
	s.call(unix.SYS_EXIT_GROUP, num(127))
	s.endSkip(executed)
	s.reapAndForward(all, child)

	failed := len(s.ops)
	s.call(unix.SYS_EXIT_GROUP, num(127))
	s.endSkip(inChild)
	s.call(opStore, arg{n: headerFail, part: inHeader}, arg{n: uint64(failed), part: inOps})
	s.call(unix.SYS_CLOSE, num(sockFD))
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
