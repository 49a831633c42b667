package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime/network/dns"
)

// A Handover is a [Sandbox] as plain data, for the program that its owner executes in its own place: execve(2) keeps the
// descriptors that are named here, and their locks.
type Handover struct {
	Container string
	Name      string
	Namespace int
	Endpoints []HeldEndpoint
	Bindings  []Binding
	Ports     []int // their sockets
	Names     []int // sockets of the name server: UDP and TCP, or none
	Upstream  []netip.AddrPort
}

// A HeldEndpoint is one whose file is locked.
type HeldEndpoint struct {
	Endpoint
	Outer string // its interface on this machine
	File  int
}

// Descriptors are all that have to stay open, those that tell of something by being readable first.
func (h *Handover) Descriptors() (readable, others []int) {
	others = []int{h.Namespace}
	for _, e := range h.Endpoints {
		others = append(others, e.File)
	}
	return append(append(readable, h.Ports...), h.Names...), others
}

// ErrBusy says that a sandbox cannot be handed over now: something is copied for the container, or asked, or was lately, or there is a
// process that would end with this program's threads (pasta).
var ErrBusy = errors.New("the network of the container is in use")

// Handover calls do with what [Store.Adopt] needs, if nothing was copied or asked in a time. While do runs, nothing comes to this
// program from the network, but waits in its sockets; if it returns, all goes on as before.
func (b *Sandbox) Handover(quiet time.Duration, do func(*Handover) error) error {
	b.mu.Lock()
	names := b.names
	b.mu.Unlock()
	if names == nil {
		return b.handover(quiet, nil, do)
	}
	// Without mu, which those need who are about to answer a question.
	err := names.Pause(quiet, func(udp *net.UDPConn, tcp *net.TCPListener) error {
		return b.handover(quiet, []int{descriptor(udp), descriptor(tcp)}, do)
	})
	if errors.Is(err, dns.ErrBusy) {
		return ErrBusy
	}
	return err
}

// handover is Handover with nobody asking for names.
func (b *Sandbox) handover(quiet time.Duration, names []int, do func(*Handover) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pasta != nil || (b.names != nil) != (names != nil) { // or a name server came or went meanwhile
		return ErrBusy
	}
	h := &Handover{Container: b.container, Name: b.name, Namespace: int(b.Namespace.Fd()), Names: names, Upstream: b.upstream}
	for _, l := range b.leases {
		h.Endpoints = append(h.Endpoints, HeldEndpoint{l.Endpoint, l.outer, int(l.file.Fd())})
	}
	if b.ports == nil {
		return do(h)
	}
	return b.ports.pause(quiet, func() error {
		h.Bindings = b.ports.list
		for _, s := range b.ports.sockets {
			h.Ports = append(h.Ports, descriptor(s))
		}
		return do(h)
	})
}

// descriptor is the number of a socket's.
func descriptor(s socket) (fd int) {
	fd = -1
	if c, err := s.SyscallConn(); err == nil {
		_ = c.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

// past is a time at which all that waits has waited too long.
func past() time.Time { return time.Unix(1, 0) }

// Adopt makes a Sandbox of what [Sandbox.Handover] gave in the program before execve(2).
func (s *Store) Adopt(h *Handover) (_ *Sandbox, err error) {
	b := &Sandbox{store: s, container: h.Container, name: h.Name, upstream: h.Upstream, Namespace: inherited(h.Namespace)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	for _, e := range h.Endpoints {
		l := &lease{Endpoint: e.Endpoint, outer: e.Outer, file: inherited(e.File)}
		b.leases = append(b.leases, l)
		if l.network, err = s.Find(e.NetworkID); err != nil {
			return nil, err
		}
	}
	if len(h.Ports) > 0 {
		b.ports = newPublication()
		b.ports.lead(b.way())
	}
	for i, fd := range h.Ports {
		if err = b.ports.adopt(inherited(fd), h.Bindings[i]); err != nil {
			return nil, err
		}
	}
	if len(h.Names) == 2 {
		udp, tcp, err := adoptNames(inherited(h.Names[0]), inherited(h.Names[1]))
		if err != nil {
			return nil, err
		}
		b.names = dns.Serve(udp, tcp, &zone{sandbox: b})
		b.askServers()
	}
	return b, nil
}

func inherited(fd int) *os.File {
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "inherited")
}

// adopt serves a port whose socket another program has made.
func (p *publication) adopt(f *os.File, b Binding) error {
	if b.Protocol == "udp" {
		conn, err := packetConn(f)
		if err != nil {
			return err
		}
		p.serveUDP(conn, b.Container)
	} else {
		l, err := listener(f)
		if err != nil {
			return err
		}
		p.serveTCP(l, b.Container)
	}
	p.list = append(p.list, b)
	return nil
}

func adoptNames(u, t *os.File) (udp *net.UDPConn, tcp *net.TCPListener, err error) {
	udp, err = packetConn(u)
	tcp, tcpErr := listener(t)
	return udp, tcp, errors.Join(err, tcpErr)
}

// packetConn and listener are what a descriptor is to package net. They close the file.
func packetConn(f *os.File) (*net.UDPConn, error) {
	c, err := net.FilePacketConn(f)
	err = errors.Join(err, f.Close())
	conn, _ := c.(*net.UDPConn)
	return conn, err
}

func listener(f *os.File) (*net.TCPListener, error) {
	l, err := net.FileListener(f)
	err = errors.Join(err, f.Close())
	tcp, _ := l.(*net.TCPListener)
	return tcp, err
}
