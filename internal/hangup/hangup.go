// Package hangup sees that the other side of a connection is gone, whoever reads what it has sent, and also if that is nobody.
package hangup

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Watch returns a channel that is closed when the other side of a connection has closed both halves, or is gone. What it has sent before may be
// unread. To close one half, as who has no more to say does, is no reason. Of TCP it is known when the other side refuses a probe, which the
// kernel sends to connections on which nothing happens. stop ends that, and is to be called before the connection is closed.
//
// Where that cannot be seen the channel stays open: a write tells.
func Watch(conn net.Conn) (gone <-chan struct{}, stop func()) {
	closed := make(chan struct{})
	f, err := duplicate(conn) // two cannot wait for one descriptor
	if err != nil {
		return closed, func() {}
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return closed, func() { _ = f.Close() }
	}
	go func() {
		// The function is called with each change of the connection.
		if err := raw.Read(func(fd uintptr) bool { return hungUp(int(fd)) }); err == nil {
			close(closed)
		}
	}()
	return closed, func() { _ = f.Close() }
}

// duplicate is another descriptor of a connection.
func duplicate(conn net.Conn) (*os.File, error) {
	switch c := conn.(type) {
	case *net.UnixConn:
		return c.File()
	case *net.TCPConn:
		return c.File()
	}
	return nil, errors.ErrUnsupported
}

func hungUp(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}
