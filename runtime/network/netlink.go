package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A request is a netlink message being written: what the kernel's structs look like, attribute by attribute.
type request struct {
	what string // for errors
	buf  []byte
}

// newRequest begins a message of a type, whose fixed part is header.
func newRequest(what string, typ uint16, flags uint16, header ...byte) *request {
	r := &request{what: what, buf: make([]byte, unix.SizeofNlMsghdr, 256)}
	binary.NativeEndian.PutUint16(r.buf[4:], typ)
	binary.NativeEndian.PutUint16(r.buf[6:], flags|unix.NLM_F_REQUEST)
	r.buf = append(r.buf, header...)
	return r
}

// attr adds an attribute.
func (r *request) attr(typ uint16, value []byte) *request {
	r.buf = binary.NativeEndian.AppendUint16(r.buf, uint16(4+len(value)))
	r.buf = binary.NativeEndian.AppendUint16(r.buf, typ)
	r.buf = append(r.buf, value...)
	for len(r.buf)%4 != 0 {
		r.buf = append(r.buf, 0)
	}
	return r
}

func (r *request) str(typ uint16, s string) *request { return r.attr(typ, append([]byte(s), 0)) }

func (r *request) uint32(typ uint16, n uint32) *request {
	return r.attr(typ, binary.NativeEndian.AppendUint32(nil, n))
}

// big adds a number as netfilter wants them.
func (r *request) big(typ uint16, n uint32) *request {
	return r.attr(typ, binary.BigEndian.AppendUint32(nil, n))
}

// nest adds an attribute made of others.
func (r *request) nest(typ uint16, fill func()) *request {
	at := len(r.buf)
	r.attr(typ|unix.NLA_F_NESTED, nil)
	fill()
	binary.NativeEndian.PutUint16(r.buf[at:], uint16(len(r.buf)-at))
	return r
}

// A conn is a netlink socket, of the network namespace its thread was in.
type conn struct{ fd int }

func dial(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("netlink socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("netlink bind", err)
	}
	// The kernel answers at once; what it does not answer must not hang us.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("netlink timeout", err)
	}
	return &conn{fd}, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// do sends requests in one message and waits until each that asks for it is answered. The first error counts.
func (c *conn) do(requests ...*request) error {
	var buf []byte
	waiting := map[uint32]*request{}
	for i, r := range requests {
		binary.NativeEndian.PutUint32(r.buf, uint32(len(r.buf)))
		binary.NativeEndian.PutUint32(r.buf[8:], uint32(i+1))
		if binary.NativeEndian.Uint16(r.buf[6:])&unix.NLM_F_ACK != 0 {
			waiting[uint32(i+1)] = r
		}
		buf = append(buf, r.buf...)
	}
	if err := unix.Sendto(c.fd, buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("%s: %w", requests[0].what, err)
	}
	var first error
	answer := make([]byte, 8192)
	for len(waiting) > 0 {
		n, _, err := unix.Recvfrom(c.fd, answer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", requests[0].what, err)
		}
		for b := answer[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return fmt.Errorf("%s: netlink message of %d bytes", requests[0].what, size)
			}
			seq := binary.NativeEndian.Uint32(b[8:])
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && size >= unix.SizeofNlMsghdr+4 {
				errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])))
				r := waiting[seq]
				if errno != 0 && first == nil {
					what := requests[0].what
					if r != nil {
						what = r.what
					}
					first = fmt.Errorf("%s: %w", what, errno)
				}
				delete(waiting, seq)
				if errno != 0 && r == nil { // of a batch's frame: there will be no other answers
					return first
				}
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
	return first
}

const ack = unix.NLM_F_ACK

// linkHeader is a struct ifinfomsg.
func linkHeader(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// addBridge makes a bridge. Its hardware address is fixed: otherwise it is one of its ports', and changes under the
// others when that container ends.
func addBridge(name string) *request {
	hardware := []byte{2, 'f', 0, 0, 0, 0} // 2 is for addresses that no maker of cards gives
	copy(hardware[2:], name)
	r := newRequest("make bridge "+name, unix.RTM_NEWLINK, ack|unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkHeader(0, unix.IFF_UP, unix.IFF_UP)...)
	r.str(unix.IFLA_IFNAME, name).attr(unix.IFLA_ADDRESS, hardware)
	return r.nest(unix.IFLA_LINKINFO, func() { r.str(unix.IFLA_INFO_KIND, "bridge") })
}

// addPair makes a pair of interfaces: name, attached to the bridge, and peer in the namespace.
func addPair(name string, bridge int, peer string, namespace *os.File) *request {
	const vethInfoPeer = 1
	r := newRequest("make interface "+name, unix.RTM_NEWLINK, ack|unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkHeader(0, unix.IFF_UP, unix.IFF_UP)...)
	r.str(unix.IFLA_IFNAME, name).uint32(unix.IFLA_MASTER, uint32(bridge))
	return r.nest(unix.IFLA_LINKINFO, func() {
		r.str(unix.IFLA_INFO_KIND, "veth")
		r.nest(unix.IFLA_INFO_DATA, func() {
			r.nest(vethInfoPeer, func() {
				r.buf = append(r.buf, linkHeader(0, 0, 0)...)
				r.str(unix.IFLA_IFNAME, peer).uint32(unix.IFLA_NET_NS_FD, uint32(namespace.Fd()))
			})
		})
	})
}

func linkUp(index int) *request {
	return newRequest("bring up the interface", unix.RTM_NEWLINK, ack, linkHeader(index, unix.IFF_UP, unix.IFF_UP)...)
}

func deleteLink(name string) *request {
	return newRequest("remove interface "+name, unix.RTM_DELLINK, ack, linkHeader(0, 0, 0)...).str(unix.IFLA_IFNAME, name)
}

// addAddress gives an interface an address.
func addAddress(index int, a netip.Prefix) *request {
	header := binary.NativeEndian.AppendUint32([]byte{unix.AF_INET, byte(a.Bits()), 0, 0}, uint32(index))
	return newRequest("address "+a.String(), unix.RTM_NEWADDR, ack|unix.NLM_F_CREATE|unix.NLM_F_EXCL, header...).
		attr(unix.IFA_LOCAL, a.Addr().AsSlice()).attr(unix.IFA_ADDRESS, a.Addr().AsSlice())
}

// addDefaultRoute makes gateway the way to everywhere.
func addDefaultRoute(gateway netip.Addr) *request {
	header := []byte{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	return newRequest("default route", unix.RTM_NEWROUTE, ack|unix.NLM_F_CREATE|unix.NLM_F_EXCL, header...).
		attr(unix.RTA_GATEWAY, gateway.AsSlice())
}

// interfaceIndex is the number of an interface.
func interfaceIndex(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ifreq, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifreq); err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return int(ifreq.Uint32()), nil
}

// interfaceAddress is the IPv4 address of an interface, and false if it has none.
func interfaceAddress(name string) (netip.Addr, bool) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, false
	}
	defer unix.Close(fd)
	ifreq, err := unix.NewIfreq(name)
	if err != nil || unix.IoctlIfreq(fd, unix.SIOCGIFADDR, ifreq) != nil {
		return netip.Addr{}, false
	}
	b, err := ifreq.Inet4Addr()
	if err != nil {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(b)
}
