package web

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
)

// A zone is the part of the network that an address is in. Zones are ordered from far to near: what a nearer one holds
// trusts this machine more.
type zone int32

// The zones.
const (
	unknown   zone = iota // not dialled yet, or reached through a proxy
	public                // globally reachable
	private               // RFC 1918, RFC 4193, RFC 6598 (carrier-grade NAT), broadcast, reserved and documentation ranges
	linkLocal             // RFC 3927, RFC 4291; metadata services of clouds; multicast
	loopback              // this machine
)

func (z zone) String() string {
	return [...]string{"unknown", "public", "private", "link-local", "loopback"}[z]
}

// ErrRefused is the root of all refusals to speak to an address.
var ErrRefused = errors.New("refused")

// mayName reports whether a server in zone z may send a client on to an address in zone to: to public addresses, and to
// those of its own zone.
func (z zone) mayName(to zone) bool { return to == public || to == z && z != unknown }

// zoneOf returns the zone of an address. An IPv6 address that carries an IPv4 address, for a translator or a tunnel, is in
// that one's zone.
func zoneOf(a netip.Addr) zone {
	a = a.Unmap().WithZone("") // a prefix contains no address with a scope
	if v4, ok := embedded(a); ok {
		return zoneOf(v4)
	}
	switch {
	case a.IsLoopback(), a.IsUnspecified(), within(a, "0.0.0.0/8"):
		return loopback
	case a.IsLinkLocalUnicast(), a.IsMulticast():
		return linkLocal
	case a.IsPrivate(), !a.IsValid(), within(a, notGlobal):
		return private
	}
	return public
}

// notGlobal are the ranges of the IANA special-purpose address registries (RFC 6890) that are not globally reachable and
// that package netip does not know: carrier-grade NAT, protocol assignments, documentation, benchmarks, reserved and
// broadcast; local NAT64, discard-only, documentation, segment routing, site-local.
const notGlobal = "100.64.0.0/10 192.0.0.0/24 192.0.2.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 " +
	"64:ff9b:1::/48 100::/64 2001:2::/48 2001:db8::/32 3fff::/20 5f00::/16 fec0::/10"

func within(a netip.Addr, prefixes string) bool {
	for p := range strings.FieldsSeq(prefixes) {
		if netip.MustParsePrefix(p).Contains(a) {
			return true
		}
	}
	return false
}

// embedded returns the IPv4 address that an IPv6 address stands for.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() || a.IsLoopback() || a.IsUnspecified() {
		return a, false
	}
	b := a.As16()
	v4 := func(at int, mask byte) (netip.Addr, bool) {
		return netip.AddrFrom4([4]byte{b[at] ^ mask, b[at+1] ^ mask, b[at+2] ^ mask, b[at+3] ^ mask}), true
	}
	switch {
	case within(a, "64:ff9b::/96 ::ffff:0:0:0/96 ::/96"): // NAT64 (RFC 6052), SIIT (RFC 2765), IPv4-compatible (RFC 4291)
		return v4(12, 0)
	case within(a, "2002::/16"): // 6to4 (RFC 3056)
		return v4(2, 0)
	case within(a, "2001::/32"): // Teredo: the client's address, inverted (RFC 4380)
		return v4(12, 0xff)
	}
	if id := binary.BigEndian.Uint32(b[8:]) &^ 0x0200_0000; id == 0x5efe { // ISATAP (RFC 5214)
		return v4(12, 0)
	}
	return a, false
}

// zoneOfHost returns the zone of a host that is an address or "localhost"; unknown of any other name.
func zoneOfHost(host string) zone {
	if IsLoopbackName(host) {
		return loopback
	}
	if a, err := netip.ParseAddr(HostOnly(host)); err == nil {
		return zoneOf(a)
	}
	return unknown
}

// IsLoopbackName reports whether host[:port] is by its name on this machine. What the name resolves to is not looked at.
func IsLoopbackName(hostport string) bool {
	host := strings.TrimSuffix(strings.ToLower(HostOnly(hostport)), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// HostOnly returns the host of host[:port], without the brackets of an IPv6 address.
func HostOnly(hostport string) string {
	if i := strings.LastIndexByte(hostport, ':'); i > strings.LastIndexByte(hostport, ']') {
		hostport = hostport[:i]
	}
	return strings.Trim(hostport, "[]")
}
