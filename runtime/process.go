package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Process is running, alone or with what it started, in a container. Its methods may be called concurrently.
type Process struct {
	sock    *os.File // to the supervisor; closing it kills the container
	ctx     context.Context
	stop    func() bool   // ends the watch over ctx
	running bool          // Start returns it
	streams streams       // those that are copied here
	console *os.File      // master of the pty
	grace   time.Duration // how long Wait reads what others write; 0 if nobody can be left

	once sync.Once
	gone chan struct{} // closed when all processes are
	exit end
	leavings
	guarded
}

// leavings are what does not go by itself with the process.
type leavings struct {
	cgroup   *cgroup
	killRest bool    // what its end leaves in its cgroup
	places   *places // what it got in the place of mounts; nil if it has mounts
}

// guarded is what several goroutines change.
type guarded struct {
	mu         sync.Mutex // guards the others
	supervisor int        // process id of the supervisor, 0 when it is gone
	pidfd      *os.File   // of the process, nil when it is gone
}

// An end is what is known when the process has ended.
type end struct {
	Exit
	usage Usage
}

// Exit is how a process ended.
type Exit struct {
	Code   int // 128+Signal if it was killed
	Signal int
	OOM    bool // the kernel killed something in the container for want of memory
}

// A Usage is what a process has used, and all that it and its children have waited for; of process 1 of a container, that is everything in it.
type Usage struct {
	CPU           time.Duration // user and system
	MaxRSS        int64         // bytes resident, at most, of the process that had the most
	Read, Written int64         // bytes, from and to disks
}

// readUsage reads a struct rusage.
func readUsage(b []byte) Usage {
	const block = 512 // bytes of ru_inblock and ru_oublock, whatever the file system's are
	field := func(i int) int64 { return int64(binary.NativeEndian.Uint64(b[8*i:])) }
	seconds := time.Duration(field(0)+field(2)) * time.Second
	return Usage{
		CPU: seconds + time.Duration(field(1)+field(3))*time.Microsecond, MaxRSS: field(4) << 10, Read: field(11) * block, Written: field(12) * block,
	}
}

// Pid is the process's number in the caller's pid namespace, or 0 if it is gone.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd == nil {
		return 0
	}
	return pidOf(p.pidfd)
}

// Signal sends a signal to the process. As process 1 it gets none but SIGKILL and SIGSTOP unless it handles it.
func (p *Process) Signal(sig os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signal(sig)
}

// signal is Signal, with mu held.
func (p *Process) signal(sig os.Signal) error {
	if p.pidfd == nil {
		return os.ErrProcessDone
	}
	return sendSignal(p.pidfd, sig, p.cgroup.directories())
}

// sendSignal sends a signal to the first process of a container. Where it is frozen, in a cgroup of version 1, it could not
// even die.
func sendSignal(pidfd *os.File, sig os.Signal, cgroups []string) error {
	n, ok := sig.(syscall.Signal)
	if !ok {
		return errors.New("unknown signal " + sig.String())
	}
	switch err := unix.PidfdSendSignal(int(pidfd.Fd()), n, nil, 0); err {
	case nil:
		if n == unix.SIGKILL {
			_ = thaw(cgroups) // they may be gone already
		}
		return nil
	case unix.ESRCH:
		return os.ErrProcessDone
	default:
		return os.NewSyscallError("pidfd_send_signal", err)
	}
}

// kill ends everything in the container. Where there is no process yet that it could kill, it tells the supervisor, who kills what
// there is: a signal could come to that too early for the process to go with it.
func (p *Process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.supervisor == 0 || p.signal(unix.SIGKILL) == nil { // then the supervisor reports how it ended
		return
	}
	_ = unix.Shutdown(int(p.sock.Fd()), unix.SHUT_RDWR)
}

// started waits until the command has been executed, or has not. Where process 1 is not the command, it reports, too.
func (p *Process) started(s *setup, io Stdio) error {
	for {
		msg, f, err := p.receive(s.reportSize())
		switch {
		case err != nil:
			return &SetupError{"supervisor", err}
		case f == nil:
			return &SetupError{"supervisor", errors.New("it could not hand over the process")}
		case len(msg) == 1: // the master of the pty
			p.attachTerminal(f, io)
		default:
			p.mu.Lock()
			p.pidfd = f
			p.mu.Unlock()
			if err := s.outcome(msg); err != nil || s.init == nil {
				return err
			}
			return s.init.initOutcome(p.sock)
		}
	}
}

// outcome reads the report of a set-up: which op failed, with what, and the results of execve. That of a process in a container may have
// been written by another.
func (s *setup) outcome(msg []byte) error {
	if len(msg) != s.reportSize() {
		return &SetupError{"report", fmt.Errorf("it has %d bytes", len(msg))}
	}
	order := binary.NativeEndian
	at, errno := order.Uint64(msg), unix.Errno(order.Uint64(msg[8:]))
	if at == 0 {
		return nil
	}
	n := at - programBase - headerSize
	if n%opSize != 0 || n/opSize >= uint64(len(s.ops)) {
		return &SetupError{"report", fmt.Errorf("there is nothing at %#x", at)}
	}
	o := s.ops[n/opSize]
	if o.step != "exec" {
		return &SetupError{o.step, errno}
	}
	// As execvp: a place where there was something that may not be executed says more than one where nothing was.
	path := s.spec.Args[0]
	for i, candidate := range s.paths {
		result := unix.Errno(-int64(order.Uint64(msg[16+8*i:])))
		if candidate == path || result == unix.EACCES || result == errno && errno != unix.ENOENT {
			return &ExecError{candidate, result}
		}
	}
	return &ExecError{path, errno}
}

// receive reads a message of the supervisor's, of at most some bytes, with the descriptor that may come with it. io.EOF if the supervisor is gone.
func (p *Process) receive(size int) ([]byte, *os.File, error) {
	buf, control := make([]byte, size), make([]byte, 64)
	for {
		n, c, _, _, err := unix.Recvmsg(int(p.sock.Fd()), buf, control, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNRESET {
			continue // reset is said once, before what is still to be read, if the supervisor left something unread
		}
		if err != nil {
			return nil, nil, os.NewSyscallError("recvmsg", err)
		}
		if n == 0 {
			return nil, nil, io.EOF
		}
		return buf[:n], received(control[:c]), nil
	}
}

func received(control []byte) *os.File {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(list) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil || len(fds) == 0 {
		return nil
	}
	// Not blocking, so that closing it ends a read; it means nothing for a pidfd.
	_ = unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "container")
}

// Wait waits until everything in the container is gone and its output is copied; of a process that joined one, until it is
// gone. The error is not about the command: it
// is ctx's cause if that ended it, or says why output could not be written.
func (p *Process) Wait() (Exit, error) {
	p.once.Do(func() {
		p.exit.Exit = p.reap()
		close(p.gone)
		if p.grace > 0 {
			p.streams.expire(time.Now().Add(p.grace))
		}
		p.streams.copies.Wait()
		p.closeAll()
		if err := p.places.remove(); err != nil {
			p.streams.fail(err)
		}
	})
	return p.exit.Exit, p.streams.failure()
}

// Usage is what the process has used, after Wait. It is zero for one that joined a container, and for one that was killed with its supervisor.
func (p *Process) Usage() Usage { return p.exit.usage }

// Gone is closed, while Wait waits, when everything in the container is gone: only what was written before is still copied.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// reap waits for the supervisor, which ends when everything else has.
func (p *Process) reap() (e Exit) {
	e = Exit{Code: 128 + int(unix.SIGKILL), Signal: int(unix.SIGKILL)} // unless it can tell
	p.reported()
	p.mu.Lock()
	if msg, _, err := p.receive(endSize); err == nil && len(msg) >= infoSize {
		order := binary.NativeEndian
		const exited, killed, dumped = 1, 2, 3 // CLD_EXITED and so on of sigaction(2)
		switch code, status := order.Uint32(msg[8:]), int(order.Uint32(msg[24:])); code {
		case exited:
			e = Exit{Code: status}
		case killed, dumped:
			e = Exit{Code: 128 + status, Signal: status}
		}
		if len(msg) == endSize {
			p.exit.usage = readUsage(msg[infoSize:])
		}
	}
	if !p.stop() && e.Signal == int(unix.SIGKILL) { // ctx ended it, before it did so itself
		p.streams.fail(context.Cause(p.ctx))
	}
	if p.places != nil {
		killDescendants(p.supervisor)
		_, _ = p.sock.Write([]byte("x")) // it may have been killed itself
	}
	p.waitForSupervisor()
	p.supervisor = 0 // it is somebody else's number now
	_ = p.pidfd.Close()
	p.pidfd = nil
	p.mu.Unlock()
	e.OOM = p.cgroup.oom()
	if p.killRest {
		killAll(p.cgroup.directories())
	}
	p.cgroup.remove()
	p.cgroup = nil
	return e
}

// waitForSupervisor waits until the supervisor has ended. One that has not told of a process may wait itself, for a set-up that hangs.
func (p *Process) waitForSupervisor() {
	const most = 5 * time.Second // what waits for a device does not die before that has answered
	options, began := 0, time.Now()
	if p.pidfd == nil {
		options = unix.WNOHANG
	}
	for {
		if p.pidfd == nil {
			killOnce(p.supervisor)
			if time.Since(began) > most {
				_ = unix.Kill(p.supervisor, unix.SIGKILL)
			}
		}
		pid, err := unix.Wait4(p.supervisor, nil, options, nil)
		if pid != 0 && err != unix.EINTR {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// reported waits for a message of the supervisor's, or its end, and leaves the message where it is: whoever takes it holds
// mu, so that none is lost with a program that hands the process over.
func (p *Process) reported() {
	for {
		_, _, err := unix.Recvfrom(int(p.sock.Fd()), make([]byte, 1), unix.MSG_PEEK)
		if err != unix.EINTR && err != unix.ECONNRESET {
			return
		}
	}
}

// closeOnError gives back what a Process that Start does not return holds.
func (p *Process) closeOnError() {
	if !p.running {
		p.cgroup.remove()
		p.closeAll()
		_ = p.places.remove() // what is not goes with the root directory
	}
}

func (p *Process) closeAll() {
	p.streams.close()
	for _, f := range []*os.File{p.sock, p.console} {
		if f != nil {
			f.Close()
		}
	}
}
