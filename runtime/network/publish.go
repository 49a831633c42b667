package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// A PortError says that a port of this machine cannot be had.
type PortError struct {
	Binding Binding
	Err     error // why, if it is not in use by somebody else
}

func (e *PortError) Error() string {
	at := fmt.Sprintf("%s:%d", e.Binding.Address, e.Binding.Port)
	if e.Err != nil {
		return fmt.Sprintf("Bind for %s failed: %v", at, e.Err)
	}
	return fmt.Sprintf("Bind for %s failed: port is already allocated", at)
}

func (e *PortError) Unwrap() error { return e.Err }

// portError says in words what the kernel answered.
func portError(b Binding, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = nil
	case errors.Is(err, syscall.EACCES):
		err = fmt.Errorf("%w: the lowest port of an ordinary user is in /proc/sys/net/ipv4/ip_unprivileged_port_start", syscall.EACCES)
	default:
		if inner := new(syscall.Errno); errors.As(err, inner) {
			err = *inner
		}
	}
	return &PortError{b, err}
}

// ephemeralTries bounds the search for a number that is free at each address of a port.
const ephemeralTries = 64

// choose finds a port of this machine that take can have at each of its addresses. What take has taken for a number that
// does not do it gives back in drop.
func (p Port) choose(take func(Binding) (uint16, error), drop func()) error {
	addresses := []netip.Addr{p.Address}
	if !p.Address.IsValid() {
		addresses = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	tries := int(p.Last) - int(p.First) + 1
	if p.First == 0 {
		tries = ephemeralTries
	}
	var err error
	for i := range tries {
		number := p.First
		if number != 0 {
			number += uint16(i)
		}
		for _, a := range addresses {
			b := Binding{Address: a, Port: number, Container: p.Container, Protocol: p.Protocol}
			number, err = take(b)
			if len(addresses) > 1 && a.Is6() && noIPv6(err) {
				err = nil // this machine has none
			}
			if err != nil {
				drop()
				err = portError(b, err)
				break
			}
		}
		if pe := (*PortError)(nil); err == nil || errors.As(err, &pe) && pe.Err != nil {
			return err
		}
	}
	return err
}

func noIPv6(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// A publication is the ports of this machine that lead to a container. Its sockets are the reservation: as long as one is
// open nobody else gets the port. What the firewall does not send to the container it gets from them: what comes by IPv6,
// and all if the firewall's rules were flushed.
type publication struct {
	forwarder
	list []Binding
}

func newPublication() *publication { return &publication{forwarder: forwarder{began: time.Now()}} }

// reserve takes ports.
func reserve(ports []Port) (p *publication, err error) {
	p = newPublication()
	for _, port := range ports {
		from := len(p.list)
		if err := port.choose(p.listen, func() { p.drop(from) }); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	return p, nil
}

// listen takes the port of a binding and returns its number.
func (p *publication) listen(b Binding) (uint16, error) {
	at, family := netip.AddrPortFrom(b.Address, b.Port), "4"
	if b.Address.Is6() {
		family = "6"
	}
	if b.Protocol == "udp" {
		conn, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return b.Port, err
		}
		b.Port = conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		p.serveUDP(conn, b.Container)
	} else {
		l, err := net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(at))
		if err != nil {
			return b.Port, err
		}
		b.Port = l.Addr().(*net.TCPAddr).AddrPort().Port()
		p.serveTCP(l, b.Container)
	}
	p.list = append(p.list, b)
	return b.Port, nil
}

// drop gives back the ports from a number on.
func (p *publication) drop(from int) {
	p.forwarder.drop(from)
	p.list = p.list[:from]
}

func (p *publication) bindings() []Binding {
	if p == nil {
		return nil
	}
	return p.list
}

// lead sends what the sockets get to an endpoint; to none if it is nil.
func (p *publication) lead(l *lease) {
	var a netip.Addr
	if l != nil {
		a = l.Address.Addr()
		if !a.IsValid() { // no way out
			a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
	}
	p.target.Store(&a)
}

// from has the container reached from inside its namespace, for there is no way to it from this machine. It is called before
// lead.
func (p *publication) from(namespace *os.File) { p.space = namespace }

func (p *publication) close() error {
	if p == nil {
		return nil
	}
	return p.forwarder.close()
}
