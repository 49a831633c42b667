package runtime

import (
	"os"
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
// descriptors those that are named. Only a failure returns.
//
// A program that waits for hours needs two pages of memory for that, and not its heap.
func (z Sleep) Do() error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	file, err := z.plan(int(self.Fd())).executable(sleepAgain)
	if err != nil {
		return err
	}
	defer file.Close()
	kept := append(append([]int{int(self.Fd())}, z.Until...), z.Keep...)
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

// plan writes what is done meanwhile.
func (z Sleep) plan(self int) *program {
	p := &program{}
	first := p.jump()
	p.call(unix.SYS_NANOSLEEP, p.words(1, 0), num(0)).allow(anyError)
	p.endSkip(first)
	p.call(unix.SYS_PRCTL, num(unix.PR_SET_NAME), p.str(z.Args[0])).allow(anyError) // else it is a number
	list := make([]uint64, len(z.Until))
	for i, fd := range z.Until {
		list[i] = uint64(fd) | unix.POLLIN<<32 // struct pollfd
	}
	timeout := num(0)
	if z.Timeout > 0 {
		timeout = p.words(uint64(z.Timeout/time.Second), uint64(z.Timeout%time.Second))
	}
	p.call(unix.SYS_PPOLL, p.words(list...), num(len(list)), timeout, num(0)).allow(anyError)
	p.call(unix.SYS_FCNTL, num(self), num(unix.F_SETFD), num(unix.FD_CLOEXEC))
	args, env := p.pointers(p.strs(z.Args)), p.pointers(p.strs(os.Environ()))
	p.call(unix.SYS_EXECVEAT, num(self), p.str(""), args, env, num(unix.AT_EMPTY_PATH))
	return p
}
