package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Ref names a running container in what processes write down for each other. The start time tells its process from a
// later one of the same number.
type Ref struct {
	Pid     int      // of the container's first process
	Started uint64   // when that began: ticks since the machine's start, as in /proc/PID/stat
	Cgroups []string // directories, one a hierarchy
}

// A Handover is a [Process] as plain data, for the program that this one executes in its own place: execve(2) keeps the
// process number, the children and the descriptors that are named here.
type Handover struct {
	Ref
	Supervisor int // process number of the supervisor, a child of this process
	Socket     int // descriptor: readable when the process has ended; closing it kills the container
	Pidfd      int // descriptor of the process
	Console    int // descriptor of the terminal's master, -1 without a terminal
}

// Ref returns what names the container. It is os.ErrProcessDone that the process has ended.
func (p *Process) Ref() (Ref, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ref()
}

// ref is Ref, with mu held.
func (p *Process) ref() (Ref, error) {
	if p.pidfd == nil {
		return Ref{}, os.ErrProcessDone
	}
	pid := pidOf(p.pidfd)
	started, err := startTime(pid)
	if err != nil {
		return Ref{}, err
	}
	return Ref{Pid: pid, Started: started, Cgroups: p.cgroup.directories()}, nil
}

// startTime is when a process began, in ticks since the machine's start: field 22 of its stat, counted from behind the
// name, in which there may be anything.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, os.ErrProcessDone
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// Handover makes the process's descriptors survive execve(2) and returns what [Adopt] needs. Nothing may be done with p
// any more. It fails if this program copies output or input of the process, which another could not go on with.
func (p *Process) Handover() (Handover, error) {
	if p.copied {
		return Handover{}, errors.New("handover of a process whose output is copied: give it pipes of its user")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ref, err := p.ref()
	if err != nil {
		return Handover{}, err
	}
	h := Handover{Ref: ref, Supervisor: p.supervisor, Socket: int(p.sock.Fd()), Pidfd: int(p.pidfd.Fd()), Console: -1}
	fds := []int{h.Socket, h.Pidfd}
	if p.console != nil {
		h.Console = int(p.console.Fd())
		fds = append(fds, h.Console)
	}
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return Handover{}, os.NewSyscallError("fcntl", err)
		}
	}
	return h, nil
}

// Adopt makes a Process of what [Process.Handover] returned in the program before execve(2). [Process.Wait] waits for it
// and removes its cgroup; nothing else ends it.
func Adopt(h Handover) *Process {
	p := &Process{gone: make(chan struct{}), ctx: context.Background(), stop: func() bool { return true }, running: true}
	file := func(fd int, name string) *os.File {
		unix.CloseOnExec(fd)
		return os.NewFile(uintptr(fd), name)
	}
	p.sock, p.pidfd = file(h.Socket, "supervisor"), file(h.Pidfd, "container")
	if h.Console >= 0 {
		_ = unix.SetNonblock(h.Console, true) // so that closing it ends a read
		p.console = file(h.Console, "container")
	}
	p.supervisor = h.Supervisor
	p.cgroup = &cgroup{dirs: h.Cgroups}
	return p
}

// Console is the master of the terminal, which is the caller's to read and write if it gave Start no Stdio; nil without a
// terminal. Wait closes it.
func (p *Process) Console() *os.File { return p.console }
