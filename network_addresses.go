package forge

import (
	"net/netip"
	"strings"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/inspect"
	"github.com/forge-build/forge/runtime/network"
)

// addresses are those that are given, of both kinds.
func (o *NetworkOptions) addresses(c *network.Config) error {
	c.IPv6 = o.IPv6
	for _, text := range o.Subnets {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return words.Invalid("invalid subnet %s: it should be such as 10.1.0.0/24 or fd00:1::/64", text)
		}
		to := &c.Subnet
		if p.Addr().Is6() {
			to = &c.Subnet6
		}
		if to.IsValid() {
			return words.Invalid("multiple overlapping subnet configuration is not supported: a network has one of IPv4 and one of IPv6, and %s is one more", text)
		}
		*to = p
	}
	for _, text := range o.Gateways {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return words.Invalid("invalid gateway %s", text)
		}
		to := &c.Gateway
		if a.Is6() {
			to = &c.Gateway6
		}
		if to.IsValid() {
			return words.Invalid("invalid gateway %s: a network has one of IPv4 and one of IPv6", text)
		}
		*to = a
	}
	return o.pools(c)
}

// pools are the parts of the subnets that are given to containers, and what is not.
func (o *NetworkOptions) pools(c *network.Config) error {
	of := func(a netip.Addr) *network.Pool {
		if a.Is6() {
			return &c.Pool6
		}
		return &c.Pool
	}
	for _, text := range o.Ranges {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return words.Invalid("invalid ip-range %s: invalid CIDR block notation", text)
		}
		pool := of(p.Addr())
		if pool.Range.IsValid() {
			return words.Invalid("cannot configure multiple ranges (%s, %s) on the same subnet: a network has one of IPv4 and one of IPv6", text, pool.Range)
		}
		pool.Range = p
	}
	for _, text := range o.Aux {
		name, ip, _ := strings.Cut(text, "=")
		a, err := netip.ParseAddr(ip)
		if name == "" || err != nil {
			return words.Invalid("invalid auxiliary address %s: it should be such as router=10.1.0.9", text)
		}
		pool := of(a)
		if b, ok := pool.Aux[name]; ok {
			return words.Invalid("invalid auxiliary address %s: %s is %s already", text, name, b)
		}
		if pool.Aux == nil {
			pool.Aux = map[string]netip.Addr{}
		}
		pool.Aux[name] = a
	}
	return nil
}

// rangeOf is a subnet as inspect shows it.
func rangeOf(subnet netip.Prefix, gateway netip.Addr, p *network.Pool) inspect.Range {
	r := inspect.Range{Subnet: subnet.String(), Gateway: gateway.String()}
	if p.Range.IsValid() {
		r.IPRange = p.Range.String()
	}
	for name, a := range p.Aux {
		if r.AuxiliaryAddresses == nil {
			r.AuxiliaryAddresses = map[string]string{}
		}
		r.AuxiliaryAddresses[name] = a.String()
	}
	return r
}
