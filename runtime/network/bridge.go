package network

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

// bridgeName is the bridge of the default network.
const bridgeName = "forge0"

// bridge is the name of a network's interface on this machine.
func (n *Network) bridge() string {
	if n.Name == DefaultName {
		return bridgeName
	}
	return "fg-" + short(n.ID)
}

// short is an ID as people see it.
func short(id string) string { return id[:min(12, len(id))] }

// mayForward makes the kernel forward packets. It is asked first, before anything of the host is touched. The setting
// stays: others may have come to rely on it.
func mayForward() error { return setSysctl("/proc/sys/net/ipv4/ip_forward", "1") }

// mayRouteLocal lets packets with 127.0.0.1 as their source out by the bridge. The rules say who may not use that.
func mayRouteLocal(bridge string) error {
	return setSysctl("/proc/sys/net/ipv4/conf/"+bridge+"/route_localnet", "1")
}

func setSysctl(file, value string) error {
	if b, err := os.ReadFile(file); err == nil && string(bytes.TrimSpace(b)) == value {
		return nil
	}
	return os.WriteFile(file, []byte(value), 0)
}

// ensureBridge makes the bridge of a network, unless it is there, and reports whether it was. It stays when the last
// container has ended: taking it down takes the kernel longer than most containers run. Sweep does it.
func ensureBridge(n *Network) (was bool, err error) {
	if n.Subnet.IsValid() {
		if a, ok := interfaceAddress(n.bridge()); ok {
			if a != n.Gateway {
				return true, fmt.Errorf("interface %s is somebody else's: it has the address %s", n.bridge(), a)
			}
			return true, n.guardBridge6()
		}
	}
	host, err := hostRoutes()
	if err != nil {
		return false, err
	}
	if !n.Subnet.IsValid() {
		if n.Subnet, err = freeSubnet(defaultSecond, defaultSecond, host); err != nil {
			return false, err
		}
		n.Gateway = n.Subnet.Addr().Next()
		n.Range6 = freeDefault6()
	} else if r, ok := overlapping(n.Subnet, host); ok {
		return false, fmt.Errorf("subnet %s: this machine has a route to %s", n.Subnet, r)
	}
	return false, makeBridge(n)
}

func makeBridge(n *Network) error {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.do(addBridge(n.bridge(), defaultMTU())); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := n.guardBridge6(); err != nil {
		return err
	}
	index, err := interfaceIndex(n.bridge())
	if err != nil {
		return err
	}
	if requests := n.address6(index); len(requests) > 0 { // before the other one, by which a bridge is known to be whole
		if err := c.do(requests...); err != nil && !errors.Is(err, unix.EEXIST) {
			if !n.Predefined() {
				return noIPv6Here(err)
			}
			n.Range6 = Range6{} // nobody has asked for it
			if err := n.guardBridge6(); err != nil {
				return err
			}
		}
	}
	return c.do(linkUp(index), addAddress(index, netip.PrefixFrom(n.Gateway, n.Subnet.Bits())))
}

// removeLink removes an interface of this machine, and with it the other one of a pair. One that is gone is no error.
func removeLink(name string) error {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.do(deleteLink(name)); !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// plug makes the pair of interfaces between a network's bridge and a namespace, and sets up the one inside. Then
// ways are the gateways by which the container reaches everything.
func (l *lease) plug(namespace *os.File, ways []netip.Addr) error {
	e := l.Endpoint
	bridge, err := interfaceIndex(l.network.bridge())
	if err != nil {
		return err
	}
	mtu, err := interfaceMTU(l.network.bridge())
	if err != nil {
		return err
	}
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.close()
	// The name is a new one even where the address is not: the interface of the last who had it may still be on its
	// way out, with its namespace, which the kernel takes apart in its own time.
	l.outer = fmt.Sprintf("fg%x%04x", e.Address.Addr().AsSlice(), rand.Uint32()&0xffff)
	err = c.do(addPair(l.outer, bridge, mtu, peer{e.Interface, e.MAC, namespace})...)
	if err == nil {
		err = l.setUp(namespace, ways)
	}
	if err == nil && len(l.Bindings) > 0 {
		err = l.open()
	}
	if err != nil {
		return errors.Join(err, removeLink(l.outer))
	}
	return nil
}

// upTimeout is for an interface to come up. It takes 0.2 ms, and longer while the kernel takes networks apart.
const upTimeout = 200 * time.Millisecond

// setUp sets up the interface inside.
func (l *lease) setUp(namespace *os.File, ways []netip.Addr) error {
	e := l.Endpoint
	return inNamespace(namespace, func(c *conn) error {
		index, err := interfaceIndex(e.Interface)
		if err != nil {
			return err
		}
		requests := []*request{addAddress(index, e.Address)}
		if !e.Address6.IsValid() {
			requests = append(requests, noOwnAddress6(e.Interface))
		}
		requests = append(requests, linkUp(index))
		if e.Address6.IsValid() {
			if err := c.do(addAddress(index, e.Address6)); err != nil {
				return noIPv6Here(err)
			}
		}
		for _, gateway := range ways {
			requests = append(requests, setDefaultRoute(gateway))
		}
		return c.do(requests...)
	})
}

// open has the container reached at once, also by itself at ports of this machine that lead to it.
func (l *lease) open() error {
	index, err := interfaceIndex(l.outer)
	if err != nil {
		return err
	}
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.close()
	// Who asks where the container is before it can answer asks again after a second.
	for end := time.Now().Add(upTimeout); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		if up, err := c.isUp(index); err != nil {
			return err
		} else if up {
			break
		}
	}
	return c.do(hairpin(index))
}

// route makes gateways the ways to everywhere in a namespace, in the place of others.
func route(namespace *os.File, gateways ...netip.Addr) error {
	var requests []*request
	for _, g := range gateways {
		requests = append(requests, setDefaultRoute(g))
	}
	if len(requests) == 0 {
		return nil
	}
	return inNamespace(namespace, func(c *conn) error { return c.do(requests...) })
}

// inNamespace calls f with a netlink socket of a namespace.
func inNamespace(namespace *os.File, f func(*conn) error) error {
	return runtime.InNetworkNamespace(namespace, func() error {
		c, err := dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer c.close()
		return f(c)
	})
}

// Networks have subnets of 256 addresses below 10.N.0.0. Those that are created take from other N than the default one, which
// has no record that they could avoid.
const (
	defaultSecond                         = 209
	createdSecondFirst, createdSecondLast = 210, 223
)

// freeSubnet is one of 10.first.0.0 to 10.last.255.255 that overlaps none of those that are used.
func freeSubnet(first, last int, used []netip.Prefix) (netip.Prefix, error) {
	for i := first << 8; i < (last+1)<<8; i++ {
		s := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		if _, taken := overlapping(s, used); !taken {
			return s, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("every subnet of 10.%d.0.0 to 10.%d.255.255 is in use", first, last)
}

// overlapping is the first of some prefixes, other than 0.0.0.0/0, that shares an address with s.
func overlapping(s netip.Prefix, used []netip.Prefix) (netip.Prefix, bool) {
	for _, u := range used {
		if u.Bits() > 0 && u.Overlaps(s) {
			return u, true
		}
	}
	return netip.Prefix{}, false
}

// routeTable is the kernel's text of where packets go, in this thread's namespace.
func routeTable() (string, error) {
	b, err := os.ReadFile("/proc/thread-self/net/route")
	return string(b), err
}

// hostRoutes are the subnets that this machine reaches, and those of its own addresses.
func hostRoutes() ([]netip.Prefix, error) {
	text, err := routeTable()
	list := routes(text)
	addrs, addrsErr := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			list = append(list, p.Masked())
		}
	}
	return list, errors.Join(err, addrsErr)
}

// routes reads the destinations of /proc/net/route.
func routes(text string) (list []netip.Prefix) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		address, err := hex.DecodeString(f[1])
		mask, err2 := hex.DecodeString(f[7])
		if err != nil || err2 != nil || len(address) != 4 || len(mask) != 4 {
			continue // the heading
		}
		bits := 0
		for _, m := range mask {
			for ; m != 0; m &= m - 1 {
				bits++
			}
		}
		var a [4]byte // printed as a number of the machine's byte order
		binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(address))
		list = append(list, netip.PrefixFrom(netip.AddrFrom4(a), bits))
	}
	return list
}

// defaultMTU is the size of packets that the way to everywhere takes: a tunnel takes less than a cable, and what is too big
// for it may be lost without a word. It is 0 if there is no way.
func defaultMTU() int {
	text, err := routeTable()
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			mtu, _ := interfaceMTU(f[0])
			return mtu
		}
	}
	return 0
}
