package network

import (
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// Numbers of the kernel's connection tracking that golang.org/x/sys/unix does not have.
const (
	conntrackGet, conntrackDelete = 1, 2

	ctaTupleOrig, ctaStatus      = 1, 3
	ctaTupleProto                = 2
	ctaProtoNum, ctaProtoDstPort = 1, 3
)

// conntrack begins a message of connection tracking.
func conntrack(what string, typ, flags uint16) *request {
	return newRequest(what, unix.NFNL_SUBSYS_CTNETLINK<<8|typ, flags, nfProtoIPv4, 0, 0, 0)
}

// forgetPeers has the kernel look again where to send what comes to UDP ports. To it all packets between the same two ports are
// one connection, which goes on for as long as somebody sends, and leads to the container that had the port before.
func forgetPeers(list []Binding) error {
	var ports []uint16
	for _, b := range list {
		if b.Protocol == "udp" && b.Address.Is4() {
			ports = append(ports, b.Port)
		}
	}
	if len(ports) == 0 {
		return nil
	}
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer c.close()
	var old [][]byte
	err = c.dump(conntrack("list connections", conntrackGet, unix.NLM_F_DUMP), func(message []byte) {
		if tuple := translatedUDP(message, ports); tuple != nil {
			old = append(old, slices.Clone(tuple))
		}
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // a kernel that cannot be asked; peers that pause for two minutes are forgotten all the same
	}
	if err != nil {
		return err
	}
	for _, tuple := range old {
		err := c.do(conntrack("forget connection", conntrackDelete, ack).attr(ctaTupleOrig|unix.NLA_F_NESTED, tuple))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// translatedUDP returns the addresses and ports of a connection if it is one by UDP to one of the ports that was sent elsewhere.
func translatedUDP(message []byte, ports []uint16) (tuple []byte) {
	if len(message) < nfHeader {
		return nil
	}
	attrs := attributes(message[nfHeader:])
	status, tuple := attrs[ctaStatus], attrs[ctaTupleOrig]
	proto := attributes(attributes(tuple)[ctaTupleProto])
	number, port := proto[ctaProtoNum], proto[ctaProtoDstPort]
	if len(status) < 4 || len(number) < 1 || len(port) < 2 || number[0] != unix.IPPROTO_UDP ||
		binary.BigEndian.Uint32(status)&ctDNAT == 0 || !slices.Contains(ports, binary.BigEndian.Uint16(port)) {
		return nil
	}
	return tuple
}
