package runtime

import (
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Sleep says when this program is wanted again.
type Sleep struct {
	Until   []int         // descriptors: one that is readable, or whose other end is closed, ends the sleep
	Keep    []int         // descriptors that stay open besides
	Timeout time.Duration // ends the sleep, too; 0 is none
	Args    []string      // of this program when it is executed again
}

// Do executes, in the place of this program, one of some hundred bytes that waits and then executes this program again: the
// very file, even if there is another one at its path by then. It keeps process number, children and environment, and of the
// descriptors those that are named, and gets one more argument: [Terminated] if SIGTERM has ended the sleep. Only a failure returns.
//
// A program that waits for hours needs two pages of memory for that, and not its heap.
func (z Sleep) Do() error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	runtime.LockOSThread() // the mask is its own until it is the only one
	defer runtime.UnlockOSThread()
	term, unblock, err := blockTerm()
	if err != nil {
		return err
	}
	defer unblock()
	file, err := z.plan(int(self.Fd()), term).executable(sleepAgain)
	if err != nil {
		return err
	}
	defer file.Close()
	kept := append(append([]int{int(self.Fd()), term}, z.Until...), z.Keep...)
	for _, fd := range kept {
		if _, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			break
		}
	}
	if err == nil {
		err = unix.Exec("/proc/self/fd/"+strconv.Itoa(int(file.Fd())), z.Args, nil)
	}
	for _, fd := range kept {
		unix.CloseOnExec(fd)
	}
	return os.NewSyscallError("execve", err)
}

// sleepAgain is the op that goes on after a failure: to execute this program may fail for want of memory, and succeed later.
const sleepAgain = 1

// Terminated is what a program learns that was sent SIGTERM while it slept: the number of the signal, as signalfd(2) gives it.
const Terminated = string(rune(unix.SIGTERM))

// blockTerm blocks SIGTERM in the calling thread, and returns a descriptor that is readable when it has come.
func blockTerm() (fd int, unblock func(), err error) {
	var set, before unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGTERM - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &before); err != nil {
		return 0, nil, os.NewSyscallError("rt_sigprocmask", err)
	}
	restore := func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }
	if fd, err = unix.Signalfd(-1, &set, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK); err != nil {
		restore()
		return 0, nil, os.NewSyscallError("signalfd", err)
	}
	return fd, func() { restore(); _ = unix.Close(fd) }, nil
}

// plan writes what is done meanwhile.
func (z Sleep) plan(self, term int) *program {
	p := &program{}
	first := p.jump()
	p.call(unix.SYS_NANOSLEEP, p.words(1, 0), num(0)).allow(anyError)
	p.endSkip(first)
	p.call(unix.SYS_PRCTL, num(unix.PR_SET_NAME), p.str(z.Args[0])).allow(anyError) // else it is a number
	var list []uint64
	for _, fd := range append([]int{term}, z.Until...) {
		list = append(list, uint64(fd)|unix.POLLIN<<32) // struct pollfd
	}
	timeout := num(0)
	if z.Timeout > 0 {
		timeout = p.words(uint64(z.Timeout/time.Second), uint64(z.Timeout%time.Second))
	}
	p.call(unix.SYS_PPOLL, p.words(list...), num(len(list)), timeout, num(0)).allow(anyError)
	// A program of Go unblocks the signal before it can take it, and would end.
	const size = 128 // of a struct signalfd_siginfo
	reason := p.space(size)
	p.call(unix.SYS_READ, num(term), reason, num(size)).allow(anyError)
	p.call(unix.SYS_CLOSE, num(term)).allow(anyError)
	p.call(unix.SYS_FCNTL, num(self), num(unix.F_SETFD), num(unix.FD_CLOEXEC))
	args, env := p.pointers(append(p.strs(z.Args), reason)), p.pointers(p.strs(os.Environ()))
	p.call(unix.SYS_EXECVEAT, num(self), p.str(""), args, env, num(unix.AT_EMPTY_PATH))
	return p
}
