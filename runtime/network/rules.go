package network

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// nftTable is the table of all our rules. Its rules never change; what networks and ports there are stands in its sets. It is
// made of the account of what is in use, so that nothing is read back from the kernel.
const nftTable = "forge"

// Names of sets.
const (
	setBridges  = "bridges"  // names of bridges
	setSame     = "same"     // each bridge twice: in and out
	setInternal = "internal" // bridges without a way out
	setWithout  = "without"  // in the table of IPv6: bridges that have none
	setSubnets  = "subnets"  // of all bridges
	mapAll      = "dnat4"    // protocol . port → address . port, at any address of this machine
	mapOne      = "dnat4addr"
)

// sets of the table, by the number that rules of the same transaction need.
func sets() []set {
	return []set{
		{name: setBridges, key: []uint32{typeInterface}},
		{name: setSame, key: []uint32{typeInterface, typeInterface}},
		{name: setInternal, key: []uint32{typeInterface}},
		{name: setSubnets, key: []uint32{typeAddress}, flags: unix.NFT_SET_INTERVAL},
		{name: mapAll, key: []uint32{typeProtocol, typePort}, data: []uint32{typeAddress, typePort}, flags: unix.NFT_SET_MAP},
		{name: mapOne, key: []uint32{typeAddress, typeProtocol, typePort}, data: []uint32{typeAddress, typePort}, flags: unix.NFT_SET_MAP},
	}
}

// ruleset makes the table of IPv4, without elements.
func ruleset() []*request {
	list := []*request{addTable()}
	for i, s := range sets() {
		list = append(list, s.add(uint32(i+1)))
	}
	list = append(
		list,
		addChain("guard", "filter", hookPrerouting, -300),
		addChain("forward", "filter", hookForward, 0),
		addChain("ports", "", 0, 0),
		addChain("prerouting", "nat", hookPrerouting, priorityNAT),
		addChain("output", "nat", hookOutput, priorityNAT),
		addChain("postrouting", "nat", hookPostrouting, 100),
	)
	list = append(list, guardRules()...)
	list = append(list, portRules()...)
	return append(list, masqueradeRules()...)
}

// allElements are those of the tables, for what is in use.
func allElements(u *usage) (list []*request) {
	for _, n := range u.networks {
		list = append(list, networkElements(addElements, n)...)
	}
	for _, e := range u.endpoints {
		list = append(list, bindingElements(addElements, e)...)
	}
	return list
}

// guardRules keep out who is not meant to come in.
func guardRules() []*request {
	// A bridge with route_localnet would let its containers to what listens on 127.0.0.1 of this machine (CVE-2020-8558).
	guard := addRule("guard", func(r rule) {
		r.meta(register, unix.NFT_META_IIFNAME)
		r.compare(unix.NFT_CMP_NEQ, interfaceName("lo"))
		r.destination(register, 1)
		r.compare(unix.NFT_CMP_EQ, []byte{127})
		r.verdict(verdictDrop, "")
	})
	return append([]*request{guard}, forwardRules()...)
}

// forwardRules let containers of a network reach each other and the world, and nobody else in but by published ports.
func forwardRules() []*request {
	interfaces := func(r rule) {
		r.meta(register, unix.NFT_META_IIFNAME)
		r.meta(unix.NFT_REG_2, unix.NFT_META_OIFNAME) // the 16 bytes after register
	}
	return []*request{
		addRule("forward", func(r rule) { interfaces(r); r.in(setSame, 0); r.verdict(verdictAccept, "") }),
		addRule("forward", func(r rule) {
			r.meta(register, unix.NFT_META_IIFNAME)
			r.in(setInternal, 0)
			r.verdict(verdictDrop, "")
		}),
		addRule("forward", func(r rule) {
			r.meta(register, unix.NFT_META_OIFNAME)
			r.in(setInternal, 0)
			r.verdict(verdictDrop, "")
		}),
		addRule("forward", func(r rule) {
			r.connection(unix.NFT_CT_STATE, ctEstablished|ctRelated)
			r.verdict(verdictAccept, "")
		}),
		addRule("forward", func(r rule) { r.connection(unix.NFT_CT_STATUS, ctDNAT); r.verdict(verdictAccept, "") }),
		// Neither another network nor a neighbour of this machine reaches what is not published.
		addRule("forward", func(r rule) { r.meta(register, unix.NFT_META_OIFNAME); r.in(setBridges, 0); r.verdict(verdictDrop, "") }),
	}
}

// portRules send what comes for a published port to its container: from outside, from containers and from this machine.
func portRules() []*request {
	port := func(r rule, first uint32) {
		r.meta(first, unix.NFT_META_L4PROTO)
		r.port(first + 1)
	}
	jump := func(chain string) *request {
		return addRule(chain, func(r rule) { r.toThisMachine(); r.verdict(unix.NFT_JUMP, "ports") })
	}
	return []*request{
		addRule("ports", func(r rule) { r.destination(register, 4); port(r, register2); r.translate(mapOne) }),
		addRule("ports", func(r rule) { port(r, register); r.translate(mapAll) }),
		jump("prerouting"), jump("output"),
	}
}

// masqueradeRules give packets an address of this machine where answers would otherwise not come back to it.
func masqueradeRules() []*request {
	return []*request{
		// To the world.
		addRule("postrouting", func(r rule) {
			r.source(register, 4)
			r.outOfBridges()
		}),
		// From a container to a published port of one in the same network, which would answer it directly.
		addRule("postrouting", func(r rule) {
			r.connection(unix.NFT_CT_STATUS, ctDNAT)
			r.source(register, 4)
			r.in(setSubnets, 0)
			r.masquerade()
		}),
		// From 127.0.0.1 to a published port.
		addRule("postrouting", func(r rule) {
			r.source(register, 1)
			r.compare(unix.NFT_CMP_EQ, []byte{127})
			r.meta(register, unix.NFT_META_OIFNAME)
			r.in(setBridges, 0)
			r.masquerade()
		}),
	}
}

// networkElements adds or deletes a network, as change does.
func networkElements(change func(string, []element) []*request, n *Network) []*request {
	return slices.Concat(
		bridgeElements(change, n),
		subnetElements(change, n.Subnet.Masked().Addr(), lastAddress(n.Subnet).Next()),
		networkElements6(change, n))
}

// bridgeElements adds or deletes a network's bridge.
func bridgeElements(change func(string, []element) []*request, n *Network) []*request {
	name := interfaceName(n.bridge())
	list := append(change(setBridges, []element{{key: name}}), change(setSame, []element{{key: slices.Concat(name, name)}})...)
	if n.Internal {
		list = append(list, change(setInternal, []element{{key: name}})...)
	}
	return list
}

// subnetElements adds or deletes the addresses from first on, before end.
func subnetElements(change func(string, []element) []*request, first, end netip.Addr) []*request {
	return change(setSubnets, []element{{key: first.AsSlice()}, {key: end.AsSlice(), end: true}})
}

// bindingElements adds or deletes the ports of an endpoint, as change does.
func bindingElements(change func(string, []element) []*request, e Endpoint) []*request {
	var all, one []element
	for _, b := range e.Bindings {
		if !b.Address.Is4() {
			continue // this machine's sockets take those
		}
		protocol := byte(unix.IPPROTO_TCP)
		if b.Protocol == "udp" {
			protocol = unix.IPPROTO_UDP
		}
		el := element{
			key:     append([]byte{protocol, 0, 0, 0}, portBytes(b.Port)...),
			data:    append(e.Address.Addr().AsSlice(), portBytes(b.Container)...),
			comment: short(e.Container),
		}
		if b.Address.IsUnspecified() {
			all = append(all, el)
		} else {
			el.key = append(b.Address.AsSlice(), el.key...)
			one = append(one, el)
		}
	}
	return append(change(mapAll, all), change(mapOne, one)...)
}

// portBytes is a port in a key: padded to a register.
func portBytes(port uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, port), 0, 0) }

// interfaceName is the name of an interface in a key.
func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// lastAddress is the broadcast address of a subnet.
func lastAddress(subnet netip.Prefix) netip.Addr {
	a := subnet.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) | uint32(1<<(32-subnet.Bits())-1)
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}
