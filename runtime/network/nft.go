package network

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// Numbers of nftables that golang.org/x/sys/unix does not have, or has not as they are used here.
const (
	nfProtoIPv4 = 2
	nfProtoIPv6 = 10
	nfHeader    = 4 // bytes: struct nfgenmsg

	hookPrerouting  = 0
	hookInput       = 1
	hookForward     = 2
	hookOutput      = 3
	hookPostrouting = 4

	priorityNAT = -100 // of destinations

	// A register of 16 bytes is made of four of 4, in which the parts of a key stand side by side.
	register, register2, register3 = unix.NFT_REG32_00, unix.NFT_REG32_01, unix.NFT_REG32_02

	// Types of keys and data as nft(8) shows them; the kernel keeps them for it. Those of a concatenation are shifted.
	typeAddress, typePort, typeProtocol, typeInterface = 7, 13, 12, 41
	typeShift                                          = 6

	ctEstablished, ctRelated = 1 << 1, 1 << 2
	ctDNAT                   = 1 << 5

	verdictDrop, verdictAccept = 0, 1

	commentOfElement = 0 // a kind of user data
	elementsAtOnce   = 400
)

// nft begins a message of nftables about the table of forge.
func nft(what string, typ int, flags uint16, table uint16) *request {
	return newRequest(what, unix.NFNL_SUBSYS_NFTABLES<<8|uint16(typ), flags|ack, nfProtoIPv4, 0, 0, 0).str(table, nftTable)
}

// transact makes changes of nftables: all or none.
func transact(requests ...*request) error {
	frame := func(typ uint16) *request {
		return newRequest("nftables", typ, 0, 0, 0, 0, unix.NFNL_SUBSYS_NFTABLES)
	}
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer c.close()
	batch := append([]*request{frame(unix.NFNL_MSG_BATCH_BEGIN)}, requests...)
	return c.do(append(batch, frame(unix.NFNL_MSG_BATCH_END))...)
}

// tableThere reports whether the tables of some families are there: firewalls are known to flush what is not theirs.
func tableThere(families ...byte) bool {
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return false
	}
	defer c.close()
	var requests []*request
	for _, family := range families {
		r := nft("nftables table", unix.NFT_MSG_GETTABLE, 0, unix.NFTA_TABLE_NAME)
		r.buf[unix.SizeofNlMsghdr] = family
		requests = append(requests, r)
	}
	return c.do(requests...) == nil
}

// filters says why the kernel has no chains for packets of a family, if so. It asks for one in a table that is gone when the answer comes.
func filters(family byte) error {
	const table = "forge-probe"
	about := func(typ int, flags, attr uint16) *request {
		return newRequest("nftables", unix.NFNL_SUBSYS_NFTABLES<<8|uint16(typ), flags|ack, family, 0, 0, 0).str(attr, table)
	}
	err := transact(
		about(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, unix.NFTA_TABLE_NAME),
		about(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFTA_CHAIN_TABLE).str(unix.NFTA_CHAIN_NAME, "forward").hook("filter", hookForward, 0),
		about(unix.NFT_MSG_DELTABLE, 0, unix.NFTA_TABLE_NAME))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return errors.New("this kernel has no nftables for IPv6 (CONFIG_NF_TABLES_IPV6): create networks without --ipv6")
	}
	return nil
}

func addTable() *request {
	return nft("nftables table", unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, unix.NFTA_TABLE_NAME)
}

func deleteTable() *request {
	return nft("remove nftables table", unix.NFT_MSG_DELTABLE, 0, unix.NFTA_TABLE_NAME)
}

// addChain makes a chain; one without a type is called by others.
func addChain(name, typ string, hook uint32, priority int32) *request {
	r := nft("nftables chain "+name, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFTA_CHAIN_TABLE).str(unix.NFTA_CHAIN_NAME, name)
	if typ == "" {
		return r
	}
	return r.hook(typ, hook, priority)
}

// hook has the kernel begin with the chain.
func (r *request) hook(typ string, hook uint32, priority int32) *request {
	return r.nest(unix.NFTA_CHAIN_HOOK, func() {
		r.big(unix.NFTA_HOOK_HOOKNUM, hook).big(unix.NFTA_HOOK_PRIORITY, uint32(priority))
	}).str(unix.NFTA_CHAIN_TYPE, typ)
}

// A set is a set of keys, or with data a map.
type set struct {
	name      string
	flags     uint32
	key, data []uint32 // types, one or more side by side
}

// width is the size of a type in a key, in bytes: parts are padded to registers.
func width(types []uint32) (n, number uint32) {
	for _, t := range types {
		size := uint32(4)
		switch t {
		case typeInterface:
			size = unix.IFNAMSIZ
		case typeAddress6:
			size = size6
		}
		n, number = n+size, number<<typeShift|t
	}
	return n, number
}

// addSet makes the set. The number names it to rules of the same transaction.
func (s set) add(number uint32) *request {
	r := nft("nftables set "+s.name, unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, unix.NFTA_SET_TABLE).str(unix.NFTA_SET_NAME, s.name)
	size, typ := width(s.key)
	r.big(unix.NFTA_SET_FLAGS, s.flags).big(unix.NFTA_SET_KEY_TYPE, typ).big(unix.NFTA_SET_KEY_LEN, size)
	if len(s.data) > 0 {
		size, typ = width(s.data)
		r.big(unix.NFTA_SET_DATA_TYPE, typ).big(unix.NFTA_SET_DATA_LEN, size)
	}
	return r.big(unix.NFTA_SET_ID, number)
}

// An element is one of a set or a map.
type element struct {
	key, data []byte
	end       bool   // of an interval
	comment   string // of whom it is, for people
}

// addElements adds elements to a set, deleteElements takes them away.
func addElements(set string, list []element) []*request {
	return elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, set, list)
}

func deleteElements(set string, list []element) []*request {
	return elements(unix.NFT_MSG_DELSETELEM, 0, set, list)
}

func elements(typ int, flags uint16, set string, list []element) (requests []*request) {
	for len(list) > 0 {
		n := min(len(list), elementsAtOnce)
		r := nft("nftables elements of "+set, typ, flags, unix.NFTA_SET_ELEM_LIST_TABLE).str(unix.NFTA_SET_ELEM_LIST_SET, set)
		r.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
			for _, e := range list[:n] {
				r.element(e)
			}
		})
		requests, list = append(requests, r), list[n:]
	}
	return requests
}

func (r *request) element(e element) {
	r.nest(unix.NFTA_LIST_ELEM, func() {
		r.nest(unix.NFTA_SET_ELEM_KEY, func() { r.attr(unix.NFTA_DATA_VALUE, e.key) })
		if e.data != nil {
			r.nest(unix.NFTA_SET_ELEM_DATA, func() { r.attr(unix.NFTA_DATA_VALUE, e.data) })
		}
		if e.end {
			r.big(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
		}
		if e.comment != "" {
			text := append([]byte(e.comment), 0)
			r.attr(unix.NFTA_SET_ELEM_USERDATA, append([]byte{commentOfElement, byte(len(text))}, text...))
		}
	})
}

// A rule is written step by step: each loads something into a register, or compares, or ends the rule.
type rule struct{ *request }

// addRule adds a rule to the end of a chain.
func addRule(chain string, steps func(rule)) *request {
	r := rule{nft("nftables rule of "+chain, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, unix.NFTA_RULE_TABLE)}
	r.str(unix.NFTA_RULE_CHAIN, chain)
	r.nest(unix.NFTA_RULE_EXPRESSIONS, func() { steps(r) })
	return r.request
}

// expression adds one step of a rule.
func (r rule) expression(name string, data func()) {
	r.nest(unix.NFTA_LIST_ELEM, func() {
		r.str(unix.NFTA_EXPR_NAME, name).nest(unix.NFTA_EXPR_DATA, data)
	})
}

// payload loads bytes of a packet.
func (r rule) payload(to, base, offset, size uint32) {
	r.expression("payload", func() {
		r.big(unix.NFTA_PAYLOAD_DREG, to).big(unix.NFTA_PAYLOAD_BASE, base)
		r.big(unix.NFTA_PAYLOAD_OFFSET, offset).big(unix.NFTA_PAYLOAD_LEN, size)
	})
}

func (r rule) source(to, size uint32)      { r.payload(to, unix.NFT_PAYLOAD_NETWORK_HEADER, 12, size) }
func (r rule) destination(to, size uint32) { r.payload(to, unix.NFT_PAYLOAD_NETWORK_HEADER, 16, size) }
func (r rule) port(to uint32)              { r.payload(to, unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2) }

// meta loads what is known of a packet besides its bytes.
func (r rule) meta(to, key uint32) {
	r.expression("meta", func() { r.big(unix.NFTA_META_DREG, to).big(unix.NFTA_META_KEY, key) })
}

// compare ends the rule unless what is loaded is, or is not, value.
func (r rule) compare(op uint32, value []byte) {
	r.expression("cmp", func() {
		r.big(unix.NFTA_CMP_SREG, register).big(unix.NFTA_CMP_OP, op)
		r.nest(unix.NFTA_CMP_DATA, func() { r.attr(unix.NFTA_DATA_VALUE, value) })
	})
}

// in ends the rule unless what is loaded is in a set, or with unix.NFT_LOOKUP_F_INV is not.
func (r rule) in(set string, flags uint32) {
	r.expression("lookup", func() {
		r.str(unix.NFTA_LOOKUP_SET, set).big(unix.NFTA_LOOKUP_SREG, register).big(unix.NFTA_LOOKUP_FLAGS, flags)
	})
}

// translate sends the packet to the address and port that a map has for what is loaded.
func (r rule) translate(to string) {
	r.expression("lookup", func() {
		r.str(unix.NFTA_LOOKUP_SET, to).big(unix.NFTA_LOOKUP_SREG, register).big(unix.NFTA_LOOKUP_DREG, register)
	})
	r.toLoaded()
}

// toLoaded sends the packet to the address and port that are loaded.
func (r rule) toLoaded() {
	r.expression("nat", func() {
		r.big(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT).big(unix.NFTA_NAT_FAMILY, nfProtoIPv4)
		r.big(unix.NFTA_NAT_REG_ADDR_MIN, register).big(unix.NFTA_NAT_REG_PROTO_MIN, register2)
	})
}

func (r rule) load(to uint32, value []byte) {
	r.expression("immediate", func() {
		r.big(unix.NFTA_IMMEDIATE_DREG, to)
		r.nest(unix.NFTA_IMMEDIATE_DATA, func() { r.attr(unix.NFTA_DATA_VALUE, value) })
	})
}

// toThisMachine ends the rule unless the packet is for an address of this machine.
func (r rule) toThisMachine() {
	r.expression("fib", func() {
		r.big(unix.NFTA_FIB_DREG, register).big(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE).big(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_DADDR)
	})
	r.compare(unix.NFT_CMP_EQ, binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL))
}

// connection ends the rule unless the packet's connection has one of the bits.
func (r rule) connection(key, bits uint32) {
	mask, zero := binary.NativeEndian.AppendUint32(nil, bits), make([]byte, 4)
	r.expression("ct", func() { r.big(unix.NFTA_CT_DREG, register).big(unix.NFTA_CT_KEY, key) })
	r.expression("bitwise", func() {
		r.big(unix.NFTA_BITWISE_SREG, register).big(unix.NFTA_BITWISE_DREG, register).big(unix.NFTA_BITWISE_LEN, 4)
		r.nest(unix.NFTA_BITWISE_MASK, func() { r.attr(unix.NFTA_DATA_VALUE, mask) })
		r.nest(unix.NFTA_BITWISE_XOR, func() { r.attr(unix.NFTA_DATA_VALUE, zero) })
	})
	r.compare(unix.NFT_CMP_NEQ, zero)
}

// outOfBridges gives a packet whose source is loaded an address of this machine if that is a container's and the packet leaves for the
// world.
func (r rule) outOfBridges() {
	r.in(setSubnets, 0)
	r.meta(register, unix.NFT_META_OIFNAME)
	r.in(setBridges, unix.NFT_LOOKUP_F_INV)
	r.masquerade()
}

func (r rule) masquerade() { r.expression("masq", func() {}) }

// verdict ends all rules of the hook, or with a chain goes on there.
func (r rule) verdict(code int32, chain string) {
	r.expression("immediate", func() {
		r.big(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		r.nest(unix.NFTA_IMMEDIATE_DATA, func() {
			r.nest(unix.NFTA_DATA_VERDICT, func() {
				r.big(unix.NFTA_VERDICT_CODE, uint32(code))
				if chain != "" {
					r.str(unix.NFTA_VERDICT_CHAIN, chain)
				}
			})
		})
	})
}
