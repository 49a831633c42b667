package network

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// linkHeader is a struct ifinfomsg.
func linkHeader(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// addBridge makes a bridge, which is down. Its hardware address is fixed: otherwise it is one of its ports', and changes under the
// others when that container ends.
func addBridge(name string, mtu int) *request {
	hash := fnv.New32a()
	hash.Write([]byte(name))
	hardware := hash.Sum([]byte{2, 'f'}) // 2 is for addresses that no maker of cards gives
	r := newRequest("make bridge "+name, unix.RTM_NEWLINK, ack|unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkHeader(0, 0, 0)...)
	r.str(unix.IFLA_IFNAME, name).attr(unix.IFLA_ADDRESS, hardware)
	if mtu > 0 {
		r.uint32(unix.IFLA_MTU, uint32(mtu))
	}
	return r.nest(unix.IFLA_LINKINFO, func() { r.str(unix.IFLA_INFO_KIND, "bridge") })
}

// A peer is the end of a pair of interfaces that is in a namespace.
type peer struct {
	name      string
	mac       net.HardwareAddr
	namespace *os.File
}

// addPair makes a pair of interfaces: name, attached to the bridge and up, and a peer.
func addPair(name string, bridge, mtu int, p peer) []*request {
	const vethInfoPeer = 1
	r := newRequest("make interface "+name, unix.RTM_NEWLINK, ack|unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkHeader(0, 0, 0)...)
	r.str(unix.IFLA_IFNAME, name).uint32(unix.IFLA_MASTER, uint32(bridge)).uint32(unix.IFLA_MTU, uint32(mtu))
	oneQueue(r)
	r.nest(unix.IFLA_LINKINFO, func() {
		r.str(unix.IFLA_INFO_KIND, "veth")
		r.nest(unix.IFLA_INFO_DATA, func() {
			r.nest(vethInfoPeer, func() {
				r.buf = append(r.buf, linkHeader(0, 0, 0)...)
				r.str(unix.IFLA_IFNAME, p.name).uint32(unix.IFLA_MTU, uint32(mtu)).uint32(unix.IFLA_NET_NS_FD, uint32(p.namespace.Fd()))
				oneQueue(r)
				if len(p.mac) > 0 {
					r.attr(unix.IFLA_ADDRESS, p.mac)
				}
			})
		})
	})
	return []*request{r, noOwnAddress6(name), linkUp(0).str(unix.IFLA_IFNAME, name)}
}

// oneQueue asks for an interface with one queue in each direction. The kernel uses one all the same, unless it is told to use more; but it makes one for each
// processor first, and waits until nobody sees the others (drivers/net/veth.c, veth_init_queues), 0.3 ms for each of a pair, in which no
// network of the machine can be changed.
func oneQueue(r *request) {
	r.uint32(unix.IFLA_NUM_TX_QUEUES, 1).uint32(unix.IFLA_NUM_RX_QUEUES, 1)
}

// hairpin lets a bridge send packets back to the port that they came from.
func hairpin(index int) *request {
	header := linkHeader(index, 0, 0)
	header[0] = unix.AF_BRIDGE
	r := newRequest("hairpin of a bridge's port", unix.RTM_SETLINK, ack, header...)
	return r.nest(unix.IFLA_PROTINFO, func() { r.attr(unix.IFLA_BRPORT_MODE, []byte{1}) })
}

func linkUp(index int) *request {
	return newRequest("bring up the interface", unix.RTM_NEWLINK, ack, linkHeader(index, unix.IFF_UP, unix.IFF_UP)...)
}

// noOwnAddress6 keeps an interface that is down from making itself an IPv6 address when it comes up. It would ask all others of its
// bridge whether they have it, and each of a hundred that come up is a packet for a hundred. Where there is no IPv6 it fails, and counts
// for nothing.
func noOwnAddress6(name string) *request {
	const modeNone = 1 // IN6_ADDR_GEN_MODE_NONE
	r := newRequest("no IPv6 address of its own for "+name, unix.RTM_NEWLINK, ack, linkHeader(0, 0, 0)...).str(unix.IFLA_IFNAME, name)
	r.optional = true
	return r.nest(unix.IFLA_AF_SPEC, func() {
		r.nest(unix.AF_INET6, func() { r.attr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{modeNone}) })
	})
}

func deleteLink(name string) *request {
	return newRequest("remove interface "+name, unix.RTM_DELLINK, ack, linkHeader(0, 0, 0)...).str(unix.IFLA_IFNAME, name)
}

// addAddress gives an interface an address. One of IPv6 is had at once: nobody else can have it, so that nobody is asked.
func addAddress(index int, a netip.Prefix) *request {
	family := byte(unix.AF_INET)
	flags := byte(0)
	if a.Addr().Is6() {
		family, flags = unix.AF_INET6, unix.IFA_F_NODAD
	}
	header := binary.NativeEndian.AppendUint32([]byte{family, byte(a.Bits()), flags, 0}, uint32(index))
	return newRequest("address "+a.String(), unix.RTM_NEWADDR, ack|unix.NLM_F_CREATE|unix.NLM_F_EXCL, header...).
		attr(unix.IFA_LOCAL, a.Addr().AsSlice()).attr(unix.IFA_ADDRESS, a.Addr().AsSlice())
}

// getAddress asks whether an interface has an IPv6 address: it fails if not.
func getAddress(index int, a netip.Addr) *request {
	header := binary.NativeEndian.AppendUint32([]byte{unix.AF_INET6, 0, 0, 0}, uint32(index))
	return newRequest("IPv6 address "+a.String(), unix.RTM_GETADDR, ack, header...).attr(unix.IFA_ADDRESS, a.AsSlice())
}

// setDefaultRoute makes gateway the way to everywhere, in the place of another one.
func setDefaultRoute(gateway netip.Addr) *request {
	family := byte(unix.AF_INET)
	if gateway.Is6() {
		family = unix.AF_INET6
	}
	header := []byte{family, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	return newRequest("default route", unix.RTM_NEWROUTE, ack|unix.NLM_F_CREATE|unix.NLM_F_REPLACE, header...).
		attr(unix.RTA_GATEWAY, gateway.AsSlice())
}

// isUp reports whether an interface sends and receives. The kernel sees to it a moment after it was told to.
func (c *conn) isUp(index int) (up bool, err error) {
	const operational = 6 // RFC 2863
	err = c.dump(newRequest("state of an interface", unix.RTM_GETLINK, ack, linkHeader(index, 0, 0)...), func(message []byte) {
		if len(message) > unix.SizeofIfInfomsg {
			state := attributes(message[unix.SizeofIfInfomsg:])[unix.IFLA_OPERSTATE]
			up = len(state) > 0 && state[0] == operational
		}
	})
	return up, err
}

// interfaceIndex is the number of an interface.
func interfaceIndex(name string) (int, error) {
	ifreq, err := ask(name, unix.SIOCGIFINDEX)
	if err != nil {
		return 0, err
	}
	return int(ifreq.Uint32()), nil
}

// interfaceMTU is the size of the biggest packet that an interface takes, in bytes.
func interfaceMTU(name string) (int, error) {
	ifreq, err := ask(name, unix.SIOCGIFMTU)
	if err != nil {
		return 0, err
	}
	return int(ifreq.Uint32()), nil
}

// interfaceAddress is the IPv4 address of an interface, and false if it has none.
func interfaceAddress(name string) (netip.Addr, bool) {
	ifreq, err := ask(name, unix.SIOCGIFADDR)
	if err != nil {
		return netip.Addr{}, false
	}
	b, err := ifreq.Inet4Addr()
	if err != nil {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(b)
}

// ask asks the kernel about an interface.
func ask(name string, question uint) (*unix.Ifreq, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ifreq, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlIfreq(fd, question, ifreq); err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	return ifreq, nil
}
