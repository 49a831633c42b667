package network

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The default network has IPv6 besides IPv4 where this machine has a way to the world by it, and networks that are created have it if that
// is asked for: addresses of a subnet that is only theirs, and a table of the firewall of the same name, which gives packets an
// address of this machine on their way to the world and keeps networks apart. Published ports need none of it: what comes for
// them by IPv6 is taken by sockets.

// A Range6 is the IPv6 addresses of a network; not valid if it has none.
type Range6 struct {
	Subnet6  netip.Prefix `json:"subnet6,omitzero"`
	Gateway6 netip.Addr   `json:"gateway6,omitzero"` // where containers reach this machine
	Pool6    Pool         `json:"pool6,omitzero"`
}

// A Place6 is an endpoint's IPv6 address; not valid if it has none.
type Place6 struct {
	Address6 netip.Prefix `json:"address6,omitzero"`
	Gateway6 netip.Addr   `json:"gateway6,omitzero"`
}

// addresses6 are the IPv6 addresses of a network to be created: those of the configuration or, if they are left to us, a subnet of
// those that everybody may use (RFC 4193), by the ID.
func (c *Config) addresses6(id string, others []*Network) (r Range6, err error) {
	if r = c.Range6; !r.Subnet6.IsValid() {
		if err := r.Pool6.alone(r.Gateway6); err != nil {
			return r, err
		}
		if !c.IPv6 {
			return r, nil
		}
		r.Subnet6 = uniqueLocal(id)
	}
	switch a := r.Subnet6.Addr(); {
	case r.Subnet6 != r.Subnet6.Masked():
		return r, fmt.Errorf("invalid subnet %s: it should be %s", r.Subnet6, r.Subnet6.Masked())
	case r.Subnet6.Bits() < 16 || r.Subnet6.Bits() > 112 || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.Is4In6():
		return r, fmt.Errorf("invalid subnet %s: it must be of /16 to /112 addresses that machines may have", r.Subnet6)
	}
	used, err := hostRoutes6()
	if err != nil {
		return r, err
	}
	for _, n := range others {
		if n.Subnet6.IsValid() {
			used = append(used, n.Subnet6)
		}
	}
	if o, taken := overlapping(r.Subnet6, used); taken {
		return r, fmt.Errorf("invalid pool request: Pool overlaps with other one on this address space: %s with %s", r.Subnet6, o)
	}
	if !r.Gateway6.IsValid() {
		r.Gateway6 = r.Subnet6.Addr().Next()
	}
	if !r.has(r.Gateway6) {
		return r, fmt.Errorf("invalid gateway %s: it is no address of a machine in %s", r.Gateway6, r.Subnet6)
	}
	return r, r.Pool6.check(r.Subnet6, r.Gateway6)
}

// has reports whether a machine may have an address of the subnet: the first one is for routers.
func (r *Range6) has(a netip.Addr) bool { return r.Subnet6.Contains(a) && a != r.Subnet6.Addr() }

// hostRoutes6 are the IPv6 subnets that this machine reaches, and those of its own addresses, but for those that each link has.
func hostRoutes6() (list []netip.Prefix, err error) {
	add := func(p netip.Prefix) {
		if a := p.Addr(); a.Is6() && !a.Is4In6() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsLoopback() {
			list = append(list, p.Masked())
		}
	}
	text, err := os.ReadFile("/proc/thread-self/net/ipv6_route")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line) // destination, length of its prefix, …: in hexadecimal digits
		if len(f) < 2 {
			continue
		}
		address, err := hex.DecodeString(f[0])
		bits, err2 := hex.DecodeString(f[1])
		if err == nil && err2 == nil && len(address) == 16 && len(bits) == 1 && bits[0] > 0 {
			add(netip.PrefixFrom(netip.AddrFrom16([16]byte(address)), int(bits[0])))
		}
	}
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			add(p)
		}
	}
	return list, err
}

// place6 is the IPv6 address of an endpoint with an IPv4 address: the one that is wanted, or the one with the same number in its
// subnet, or the next that is free.
func (u *usage) place6(n *Network, address, wanted netip.Addr) (p Place6, err error) {
	switch {
	case !n.Subnet6.IsValid() && wanted.IsValid(), wanted.IsValid() && !n.has(wanted):
		return p, fmt.Errorf("no configured subnet or ip-range contain the IP address %s", wanted)
	case !n.Subnet6.IsValid():
		return p, nil
	}
	used := n.Pool6.taken(n.Gateway6)
	for _, e := range u.of(n) {
		used[e.Address6.Addr()] = true
	}
	if wanted.IsValid() && used[wanted] {
		return p, fmt.Errorf("Address already in use: %s", wanted) //nolint:staticcheck // these are docker's words
	}
	a := wanted
	if !a.IsValid() {
		a = n.sameNumber(address)
		for tries := len(used) + 2; used[a] || !n.has(a); a = n.Pool6.next(n.Subnet6, a) { // one more than there can be that it may not be
			if tries--; tries == 0 {
				return p, fmt.Errorf("no available IPv6 addresses on this network's address pools: %s (%s)", n.Name, n.ID)
			}
		}
	}
	return Place6{netip.PrefixFrom(a, n.Subnet6.Bits()), n.Gateway6}, nil
}

// sameNumber is the IPv6 address with the number of an IPv4 address in its subnet, counted from the first one that is given; or that one.
func (n *Network) sameNumber(address netip.Addr) netip.Addr {
	part := n.Pool6.within(n.Subnet6)
	first, own, base := part.Addr().As16(), address.As4(), n.Subnet.Masked().Addr().As4()
	number := binary.BigEndian.Uint32(own[:]) - binary.BigEndian.Uint32(base[:])
	binary.BigEndian.PutUint16(first[14:], binary.BigEndian.Uint16(first[14:])+uint16(number)) // of a subnet of /112 at least
	if a := netip.AddrFrom16(first); part.Contains(a) {
		return a
	}
	return part.Addr()
}

// guardBridge6 keeps this machine from learning routes from the bridge's containers, any of which can say that it is a router, and from
// taking any IPv6 of those of a network without it, who can write packets themselves. Where there is no IPv6 there is nothing to keep
// out. Where settings can only be read this machine is a container, too, and its owner's to set.
func (n *Network) guardBridge6() error {
	settings := []struct{ name, value string }{{"accept_ra", "0"}, {"accept_redirects", "0"}, {disabled6, "1"}}
	if n.Subnet6.IsValid() {
		settings = settings[:2]
	}
	for _, s := range settings {
		err := setSysctl(n.setting6(s.name), s.value)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.EROFS) {
			return err
		}
	}
	return nil
}

// disabled6 is the setting by which an interface drops all IPv6.
const disabled6 = "disable_ipv6"

func (n *Network) setting6(name string) string {
	return "/proc/sys/net/ipv6/conf/" + n.bridge() + "/" + name
}

// mayForward6 makes the kernel forward IPv6. This machine's interfaces that learn their routes from routers go on doing so, which a
// machine that forwards does not without being told; those that are not there yet, and ours, are not told.
func mayForward6() error {
	const forwarding = "/proc/sys/net/ipv6/conf/all/forwarding"
	if b, err := os.ReadFile(forwarding); err == nil && bytes.HasPrefix(b, []byte("1")) {
		return nil
	}
	files, _ := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	ours := regexp.MustCompile(`/(all|default|` + bridgeName + `|fg-?[0-9a-f]{12})/`)
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && string(b) == "1\n" && !ours.MatchString(f) {
			if err := os.WriteFile(f, []byte("2"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	err := os.WriteFile(forwarding, []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("this machine has no IPv6 (/proc/sys/net/ipv6 is missing): create the network without --ipv6")
	}
	return err
}

// default6 are the IPv6 addresses of the default network: the same everywhere, of those that everybody may use (RFC 4193).
func default6() Range6 {
	subnet := uniqueLocal(predefined(DefaultName).ID)
	return Range6{Subnet6: subnet, Gateway6: subnet.Addr().Next()}
}

// freeDefault6 is default6, where this machine has a way to the world by IPv6 and lets containers go it; else it is not valid.
func freeDefault6() Range6 {
	r := default6()
	used, err := hostRoutes6()
	if _, taken := overlapping(r.Subnet6, used); err != nil || taken || !hasWay6() || filters(nfProtoIPv6) != nil || mayForward6() != nil {
		return Range6{}
	}
	return r
}

// uniqueLocal is a subnet made of a text.
func uniqueLocal(text string) netip.Prefix {
	hash := sha256.Sum256([]byte(text))
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, hash[0], hash[1], hash[2], hash[3], hash[4]}), 64)
}

// hasWay6 reports whether this machine has a way to everywhere by IPv6.
func hasWay6() bool {
	text, _ := os.ReadFile("/proc/thread-self/net/ipv6_route")
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 10 && f[0] == strings.Repeat("0", 32) && f[1] == "00" && f[9] != "lo" { // which has those that lead nowhere
			return true
		}
	}
	return false
}

// hasAddress6 reports whether an interface has an IPv6 address.
func hasAddress6(name string, a netip.Addr) bool {
	index, err := interfaceIndex(name)
	if err != nil {
		return false
	}
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	defer c.close()
	return c.do(getAddress(index, a)) == nil
}

// address6 gives a bridge its address. Nobody else can have it, so that nobody is asked.
func (n *Network) address6(index int) []*request {
	if !n.Subnet6.IsValid() {
		return nil
	}
	return []*request{addAddress(index, netip.PrefixFrom(n.Gateway6, n.Subnet6.Bits()))}
}

// noIPv6Here says in words why an interface gets no IPv6 address.
func noIPv6Here(err error) error {
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EAFNOSUPPORT) {
		return fmt.Errorf("%w: this machine's new interfaces have no IPv6 (net.ipv6.conf.default.disable_ipv6)", err)
	}
	return err
}

// Offsets and sizes of addresses in an IPv6 header.
const (
	source6, size6 = 8, 16
	typeAddress6   = 8
)

// in6 makes requests ones about the table of IPv6.
func in6(list []*request) []*request {
	for _, r := range list {
		r.buf[unix.SizeofNlMsghdr] = nfProtoIPv6
	}
	return list
}

// ruled6 reports whether the table of IPv6 has the network: each that has IPv6, and each that has none and is kept from it, unless this
// kernel has no such tables. Then the settings of the bridge keep it, and an internal network whose settings do not is not to be had.
func (n *Network) ruled6() bool {
	if n.Subnet6.IsValid() || n.Rules6 || !n.Internal {
		return n.Subnet6.IsValid() || n.Rules6
	}
	b, err := os.ReadFile(n.setting6(disabled6))
	return err == nil && bytes.HasPrefix(b, []byte("0"))
}

// ruleset6 makes the table of IPv6, without elements, if a network needs it.
func ruleset6(u *usage) []*request {
	if !slices.ContainsFunc(u.networks, (*Network).ruled6) {
		return nil
	}
	list := []*request{addTable()}
	for i, s := range []set{
		{name: setBridges, key: []uint32{typeInterface}},
		{name: setSame, key: []uint32{typeInterface, typeInterface}},
		{name: setInternal, key: []uint32{typeInterface}},
		{name: setSubnets, key: []uint32{typeAddress6}, flags: unix.NFT_SET_INTERVAL},
		{name: setWithout, key: []uint32{typeInterface}},
	} {
		list = append(list, s.add(uint32(i+1)))
	}
	list = append(list, addChain("input", "filter", hookInput, 0), addChain("forward", "filter", hookForward, 0),
		addChain("postrouting", "nat", hookPostrouting, 100))
	list = append(list, addRule("input", func(r rule) {
		r.meta(register, unix.NFT_META_IIFNAME)
		r.in(setWithout, 0)
		r.verdict(verdictDrop, "")
	}))
	list = append(list, forwardRules()...)
	return in6(append(list, addRule("postrouting", func(r rule) {
		r.payload(register, unix.NFT_PAYLOAD_NETWORK_HEADER, source6, size6)
		r.outOfBridges()
	})))
}

// networkElements6 adds or deletes the IPv6 of a network, as change does. One that has none is internal there, and does not reach this
// machine either.
func networkElements6(change func(string, []element) []*request, n *Network) []*request {
	if !n.ruled6() {
		return nil
	}
	if n.Subnet6.IsValid() {
		return in6(append(bridgeElements(change, n), subnetElements(change, n.Subnet6.Addr(), lastAddress6(n.Subnet6).Next())...))
	}
	shut := *n
	shut.Internal = true
	return in6(append(bridgeElements(change, &shut), change(setWithout, []element{{key: interfaceName(n.bridge())}})...))
}

// lastAddress6 is the last address of a subnet.
func lastAddress6(subnet netip.Prefix) netip.Addr {
	a := subnet.Masked().Addr().As16()
	for bit := subnet.Bits(); bit < 128; bit++ {
		a[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom16(a)
}
