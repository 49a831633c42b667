package network

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// nftTable is the table that holds the one rule.
const nftTable = "forge"

const (
	nfProtoIPv4    = 2
	hookPostRoute  = 4
	priorityNATSrc = 100
)

// nft begins a message of nftables.
func nft(what string, typ int, flags uint16) *request {
	return newRequest(what, unix.NFNL_SUBSYS_NFTABLES<<8|uint16(typ), flags, nfProtoIPv4, 0, 0, 0)
}

// batch makes a transaction of requests: all or none.
func batch(requests ...*request) []*request {
	frame := func(typ uint16) *request {
		return newRequest("nftables", typ, 0, 0, 0, 0, unix.NFNL_SUBSYS_NFTABLES)
	}
	return append(append([]*request{frame(unix.NFNL_MSG_BATCH_BEGIN)}, requests...), frame(unix.NFNL_MSG_BATCH_END))
}

// masquerade has packets from the subnet leave the machine under its own address: one table with one chain with one
// rule, made anew whatever there was of it.
func masquerade(subnet netip.Prefix, bridge string) error {
	table := func(what string, typ int, flags uint16) *request {
		return nft(what, typ, flags|ack).str(unix.NFTA_TABLE_NAME, nftTable)
	}
	chain := nft("nftables chain", unix.NFT_MSG_NEWCHAIN, ack|unix.NLM_F_CREATE).
		str(unix.NFTA_CHAIN_TABLE, nftTable).str(unix.NFTA_CHAIN_NAME, "nat")
	chain.nest(unix.NFTA_CHAIN_HOOK, func() {
		chain.big(unix.NFTA_HOOK_HOOKNUM, hookPostRoute).big(unix.NFTA_HOOK_PRIORITY, priorityNATSrc)
	}).str(unix.NFTA_CHAIN_TYPE, "nat")

	rule := nft("nftables rule", unix.NFT_MSG_NEWRULE, ack|unix.NLM_F_CREATE|unix.NLM_F_APPEND).
		str(unix.NFTA_RULE_TABLE, nftTable).str(unix.NFTA_RULE_CHAIN, "nat")
	rule.nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		const register, networkHeader, source = 1, 1, 12
		bytes := subnet.Bits() / 8
		rule.expression("payload", func() {
			rule.big(unix.NFTA_PAYLOAD_DREG, register).big(unix.NFTA_PAYLOAD_BASE, networkHeader)
			rule.big(unix.NFTA_PAYLOAD_OFFSET, source).big(unix.NFTA_PAYLOAD_LEN, uint32(bytes))
		})
		rule.compare(register, unix.NFT_CMP_EQ, subnet.Addr().AsSlice()[:bytes])
		rule.expression("meta", func() {
			rule.big(unix.NFTA_META_DREG, register).big(unix.NFTA_META_KEY, unix.NFT_META_OIFNAME)
		})
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, bridge)
		rule.compare(register, unix.NFT_CMP_NEQ, name)
		rule.expression("masq", func() {})
	})

	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer c.close()
	return c.do(batch(
		table("nftables table", unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE), // so that there is one to delete
		table("nftables table", unix.NFT_MSG_DELTABLE, 0),
		table("nftables table", unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE),
		chain, rule)...)
}

// masquerades reports whether the table is there: firewalls are known to flush what is not theirs.
func masquerades() bool {
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return false
	}
	defer c.close()
	return c.do(nft("nftables table", unix.NFT_MSG_GETTABLE, ack).str(unix.NFTA_TABLE_NAME, nftTable)) == nil
}

// stopMasquerade removes the table.
func stopMasquerade() error {
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer c.close()
	err = c.do(batch(nft("remove nftables table", unix.NFT_MSG_DELTABLE, ack).str(unix.NFTA_TABLE_NAME, nftTable))...)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// expression adds one step of a rule.
func (r *request) expression(name string, data func()) {
	r.nest(unix.NFTA_LIST_ELEM, func() {
		r.str(unix.NFTA_EXPR_NAME, name).nest(unix.NFTA_EXPR_DATA, data)
	})
}

// compare ends the rule unless what is in a register is, or is not, value.
func (r *request) compare(register, op uint32, value []byte) {
	r.expression("cmp", func() {
		r.big(unix.NFTA_CMP_SREG, register).big(unix.NFTA_CMP_OP, op)
		r.nest(unix.NFTA_CMP_DATA, func() { r.attr(unix.NFTA_DATA_VALUE, value) })
	})
}
