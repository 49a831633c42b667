package network

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

const (
	dialTimeout = 10 * time.Second
	udpIdle     = 90 * time.Second // after which an answer is no longer waited for
	udpPeers    = 1024             // of one port at once; those beyond get no answer
	udpMessage  = 65535            // bytes
)

// A forwarder copies between sockets of this machine and a container. Its close waits until all of it has ended.
type forwarder struct {
	target atomic.Pointer[netip.Addr] // where to; nil or not valid is nowhere
	space  *os.File                   // from where; nil is this machine
	loops  sync.WaitGroup             // one a socket
	work   sync.WaitGroup

	relays atomic.Int32 // connections and peers for whom it copies
	began  time.Time
	last   atomic.Int64 // when one of them came or went, in nanoseconds since began

	buffers sync.Pool

	mu      sync.Mutex             // guards what follows
	sockets []served               // one a port
	conns   map[io.Closer]struct{} // nil once closed
	closed  bool
}

// A socket is a port of this machine.
type socket interface {
	io.Closer
	syscall.Conn
}

// A served socket has a loop that takes what comes, which serve is.
type served struct {
	socket
	serve func()
}

// connect connects to a port of the container.
func (f *forwarder) connect(kind string, port uint16) (conn net.Conn, err error) {
	a := f.target.Load()
	if a == nil || !a.IsValid() {
		return nil, errors.New("there is no way to the container")
	}
	dial := func() (err error) {
		conn, err = net.DialTimeout(kind, netip.AddrPortFrom(*a, port).String(), dialTimeout)
		return err
	}
	if f.space == nil {
		err = dial()
	} else {
		err = runtime.InNetworkNamespace(f.space, dial)
	}
	if err == nil && !f.hold(conn) {
		err = net.ErrClosed
	}
	return conn, err
}

// hold has a connection closed with the forwarder, and reports whether that is still open.
func (f *forwarder) hold(c io.Closer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		c.Close()
		return false
	}
	if f.conns == nil {
		f.conns = map[io.Closer]struct{}{}
	}
	f.conns[c] = struct{}{}
	return true
}

// free closes a connection.
func (f *forwarder) free(c io.Closer) {
	c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

// drop closes the sockets from a number on.
func (f *forwarder) drop(from int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sockets[from:] {
		s.Close()
	}
	f.sockets = f.sockets[:from]
}

func (f *forwarder) close() error {
	f.drop(0)
	f.mu.Lock()
	f.closed = true
	for c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.loops.Wait()
	f.work.Wait()
	return nil
}

// busy reports whether something is copied, or was in a time.
func (f *forwarder) busy(quiet time.Duration) bool {
	return f.relays.Load() > 0 || time.Since(f.began)-time.Duration(f.last.Load()) < quiet
}

// enter and leave are the beginning and the end of a connection, or of a peer, for whom something is copied.
func (f *forwarder) enter() {
	f.relays.Add(1)
	f.last.Store(int64(time.Since(f.began)))
}

func (f *forwarder) leave() {
	f.last.Store(int64(time.Since(f.began)))
	f.relays.Add(-1)
}

// pause calls do while all that comes waits in the sockets, if nothing was copied for a time. Who pauses does not close meanwhile.
func (f *forwarder) pause(quiet time.Duration, do func() error) error {
	if f.busy(quiet) {
		return ErrBusy
	}
	f.setDeadlines(past())
	f.loops.Wait()
	defer func() {
		f.setDeadlines(time.Time{})
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, s := range f.sockets {
			f.loops.Go(s.serve)
		}
	}()
	if f.busy(quiet) {
		return ErrBusy
	}
	return do()
}

// setDeadlines says until when the sockets take what comes; zero is for ever.
func (f *forwarder) setDeadlines(t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sockets {
		switch s := s.socket.(type) {
		case *net.TCPListener:
			_ = s.SetDeadline(t)
		case *net.UDPConn:
			_ = s.SetReadDeadline(t)
		}
	}
}

// add begins to serve a socket.
func (f *forwarder) add(c socket, serve func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sockets = append(f.sockets, served{c, serve})
	f.loops.Go(serve)
}

func (f *forwarder) serveTCP(l *net.TCPListener, port uint16) {
	f.add(l, func() { f.acceptTCP(l, port) })
}

// acceptTCP takes connections until the socket is closed or the forwarder is paused.
func (f *forwarder) acceptTCP(l *net.TCPListener, port uint16) {
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if ne, ok := err.(net.Error); ok && ne.Temporary() { //nolint:errorlint,staticcheck // too many open files: it says so itself
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			return // closed
		}
		f.enter()
		f.work.Go(func() {
			defer f.leave()
			f.relay(conn, port)
		})
	}
}

// relay copies both ways until both have ended. The kernel moves the bytes: io.Copy between TCP sockets is splice(2).
func (f *forwarder) relay(conn *net.TCPConn, port uint16) {
	if !f.hold(conn) {
		return
	}
	defer f.free(conn)
	c, err := f.connect("tcp4", port)
	if err != nil {
		return
	}
	defer f.free(c)
	up := c.(*net.TCPConn)
	var copies sync.WaitGroup
	copies.Go(func() { _, _ = io.Copy(up, conn); _ = up.CloseWrite() })
	_, _ = io.Copy(conn, up)
	_ = conn.CloseWrite()
	copies.Wait()
}

// serveUDP gives each peer a socket of its own to the container, for the answers.
func (f *forwarder) serveUDP(conn *net.UDPConn, port uint16) {
	var mu sync.Mutex // guards peers
	peers := map[netip.AddrPort]*net.UDPConn{}
	f.add(conn, func() {
		f.messages(conn, func(message []byte, from netip.AddrPort) bool {
			mu.Lock()
			defer mu.Unlock()
			up := peers[from]
			if up == nil {
				if len(peers) >= udpPeers {
					return true
				}
				c, err := f.connect("udp4", port)
				if err != nil {
					return true
				}
				up = c.(*net.UDPConn)
				peers[from] = up
				f.enter()
				f.work.Go(func() {
					defer f.leave()
					f.answer(conn, up, from)
					mu.Lock()
					defer mu.Unlock()
					delete(peers, from)
				})
			}
			_ = up.SetReadDeadline(time.Now().Add(udpIdle))
			_, _ = up.Write(message)
			return true
		})
	})
}

// answer sends what comes from the container to a peer, until nothing has come or gone for a while.
func (f *forwarder) answer(conn, up *net.UDPConn, peer netip.AddrPort) {
	defer f.free(up)
	f.messages(up, func(message []byte, _ netip.AddrPort) bool {
		_ = up.SetReadDeadline(time.Now().Add(udpIdle))
		_, err := conn.WriteToUDPAddrPort(message, peer)
		return err == nil
	})
}

// messages calls each with what a socket gets, until each returns false or the socket is closed. It takes memory for a message
// only while there is one.
func (f *forwarder) messages(conn *net.UDPConn, each func(message []byte, from netip.AddrPort) bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	for {
		if raw.Read(func(fd uintptr) bool {
			_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return err != unix.EAGAIN
		}) != nil {
			return
		}
		buf, _ := f.buffers.Get().(*[]byte)
		if buf == nil {
			buf = new(make([]byte, udpMessage))
		}
		n, from, err := conn.ReadFromUDPAddrPort(*buf)
		goOn := err == nil && each((*buf)[:n], from)
		f.buffers.Put(buf)
		if !goOn && !errors.Is(err, unix.ECONNREFUSED) { // of the container, which does not listen yet
			return
		}
	}
}
