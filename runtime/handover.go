package runtime

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A Handover is a [Process] as plain data, for the program that this one executes in its own place: execve(2) keeps the
// process number, the children, and the descriptors that are named here.
type Handover struct {
	Ref
	Supervisor int    // process number of the supervisor, a child of this process
	Socket     int    // descriptor: readable when the process has ended; closing it kills the container
	Pidfd      int    // descriptor of the process
	Console    int    // descriptor of the terminal's master, -1 without a terminal
	Streams    [3]int // descriptors of our ends of the standard streams; -1 is none, or one that has ended
	KillRest   bool   // its end leaves others in its cgroup
}

// Descriptors are all that have to stay open, those that tell of something by being readable first.
func (h Handover) Descriptors() (readable, others []int) {
	readable = []int{h.Socket}
	for n, fd := range h.Streams {
		switch {
		case fd < 0:
		case n == 0:
			others = append(others, fd)
		default:
			readable = append(readable, fd)
		}
	}
	if others = append(others, h.Pidfd); h.Console >= 0 {
		others = append(others, h.Console)
	}
	return readable, others
}

// Handover calls do with what [Adopt] needs, to execute another program. While do runs, nothing that the process has written
// or that was said of its end is in this program alone. If do returns, all goes on as before. os.ErrProcessDone says that the
// process has ended.
//
// What this program has read to pass on to the process's input is the caller's to know.
func (p *Process) Handover(do func(Handover) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ref, err := p.ref()
	if err != nil {
		return err
	}
	if p.places != nil {
		return errors.New("what the process has in the place of mounts is taken away by who started it")
	}
	p.streams.halt()
	defer p.streams.goOn()
	h := Handover{
		Ref: ref, Supervisor: p.supervisor, Socket: descriptor(p.sock), Pidfd: descriptor(p.pidfd), Console: -1, KillRest: p.killRest,
	}
	if p.console != nil {
		h.Console = descriptor(p.console)
	}
	for n, f := range p.streams.file {
		h.Streams[n] = -1
		if f != nil && !p.streams.over[n].Load() {
			h.Streams[n] = descriptor(f)
		}
	}
	return do(h)
}

// descriptor is the descriptor of a file, which stays as it is: [os.File.Fd] would have reads wait in a thread each.
func descriptor(f *os.File) (fd int) {
	fd = -1
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

// Adopt makes a Process of what [Process.Handover] gave in the program before execve(2), and copies its streams.
func Adopt(h Handover, stdio Stdio) *Process {
	p := &Process{
		gone: make(chan struct{}), ctx: context.Background(), stop: func() bool { return true }, running: true,
		leavings: leavings{killRest: h.KillRest, cgroup: &cgroup{dirs: h.Cgroups}},
	}
	file := func(fd int, name string) *os.File {
		if fd < 0 {
			return nil
		}
		unix.CloseOnExec(fd)
		return os.NewFile(uintptr(fd), name)
	}
	p.supervisor, p.sock, p.pidfd = h.Supervisor, file(h.Socket, "supervisor"), file(h.Pidfd, "container")
	if h.Console >= 0 {
		p.attachTerminal(file(h.Console, "container"), stdio)
		return p
	}
	if p.streams.file[0] = file(h.Streams[0], "stdin"); p.streams.file[0] != nil && stdio.In != nil {
		p.streams.feed(stdio.In)
	}
	p.takeUp(1, file(h.Streams[1], "stdout"), stdio.Out)
	p.takeUp(2, file(h.Streams[2], "stderr"), stdio.Err)
	return p
}

// takeUp goes on copying an output.
func (p *Process) takeUp(n int, from *os.File, to io.Writer) {
	if p.streams.file[n] = from; from != nil {
		p.streams.drain(n, to)
	}
}
