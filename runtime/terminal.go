package runtime

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// makeTerminal makes a pty and mounts its slave as /dev/console.
func (s *setup) makeTerminal() {
	s.step = "terminal"
	s.pty()
	console := s.word()
	s.call(unix.SYS_MKNODAT, s.dev, s.str("console"), num(unix.S_IFREG|0o600), num(0))
	s.clone(s.slave, "").into(console)
	s.attachAt(console, "console")
}

// pty makes a pty in the container's own devpts, in which nothing may be mounted, and hands the master to the caller.
func (s *setup) pty() {
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	how := s.how(flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	master := s.word()
	s.slave = s.word()
	s.call(unix.SYS_OPENAT2, s.devpts, s.str("ptmx"), how, num(sizeofHow)).into(master)
	s.call(unix.SYS_IOCTL, master, num(unix.TIOCSPTLCK), s.words(0))
	if size := uint64(s.spec.Rows) | uint64(s.spec.Cols)<<16; size != 0 {
		s.call(unix.SYS_IOCTL, master, num(unix.TIOCSWINSZ), s.words(size))
	}
	s.call(unix.SYS_IOCTL, master, num(unix.TIOCGPTPEER), num(flags)).into(s.slave)
	s.call(unix.SYS_FCHOWN, s.slave, num(s.spec.User.UID), num(^uint32(0)))
	s.call(unix.SYS_FCHMOD, s.slave, num(0o620))

	s.sendWith(s.str("t"), 1, s.control(master))
	s.call(unix.SYS_CLOSE, master)
}

// cmsgFD is the length of a control message with one descriptor, without the padding.
const cmsgFD = 20

// control makes a control message of 24 bytes with a descriptor.
func (s *setup) control(fd arg) arg {
	control := s.words(cmsgFD, unix.SOL_SOCKET|unix.SCM_RIGHTS<<32, 0)
	s.call(opStore, control.plus(16), fd)
	return control
}

// sendWith sends the caller n bytes with a control message of 24 bytes.
func (s *setup) sendWith(data arg, n int, control arg) *op {
	vec := s.words(0, uint64(n)) // struct iovec
	s.put(vec, data)
	msg := s.words(0, 0, 0, 1, 0, 24, 0) // struct msghdr
	s.put(msg.plus(16), vec)
	s.put(msg.plus(32), control)
	return s.call(unix.SYS_SENDMSG, num(sockFD), msg, num(unix.MSG_NOSIGNAL))
}

// attachTerminal copies between the caller's stdio and the master.
func (p *Process) attachTerminal(master *os.File, stdio Stdio) {
	p.console = master
	if stdio.In != nil {
		go func() { _, _ = io.Copy(master, stdio.In) }()
	}
	out := stdio.Out
	if out == nil {
		out = io.Discard
	}
	p.streams.file[1] = master
	p.streams.drain(1, out)
}

// Resize sets the size of the terminal. The kernel signals the foreground processes (SIGWINCH).
func (p *Process) Resize(rows, cols uint16) error {
	if p.console == nil {
		return errors.New("no terminal")
	}
	conn, err := p.console.SyscallConn()
	if err != nil {
		return err
	}
	set := error(nil)
	err = conn.Control(func(fd uintptr) {
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	return errors.Join(err, set)
}
