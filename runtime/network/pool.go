package network

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/forge-build/forge/container/words"
)

// A Pool says which addresses of a subnet are given to containers that do not ask for one.
type Pool struct {
	Range netip.Prefix          `json:"range,omitzero"` // not valid means all of the subnet
	Aux   map[string]netip.Addr `json:"aux,omitempty"`  // what is not given to containers, by what it is for
}

// check refuses what is not of a subnet, of the same kind of addresses, in docker's words. The gateway is one of the subnet.
func (p *Pool) check(subnet netip.Prefix, gateway netip.Addr) error {
	if r := p.Range; r.IsValid() {
		switch {
		case r.Bits() < subnet.Bits():
			return words.Invalid("invalid ip-range %s: CIDR block is bigger than its parent subnet %s", r, subnet)
		case r != r.Masked():
			return words.Invalid("invalid ip-range %s: it should be %s", r, r.Masked())
		case !subnet.Contains(r.Addr()):
			return words.Invalid("invalid ip-range %s: parent subnet %s doesn't contain ip-range", r, subnet)
		}
	}
	taken := map[netip.Addr]bool{gateway: true}
	for _, name := range slices.Sorted(maps.Keys(p.Aux)) {
		a := p.Aux[name]
		switch {
		case name == "DefaultGatewayIPv4" || name == "DefaultGatewayIPv6":
			// Docker sends containers by it instead of the gateway.
			return words.Invalid("invalid auxiliary address %s: containers reach others by the gateway of their network: give another name, or --gateway", name)
		case !subnet.Contains(a):
			return words.Invalid("invalid auxiliary address %s: parent subnet %s doesn't contain this address", name, subnet)
		case taken[a]:
			return words.Refused("failed to allocate secondary ip address (%s:%s): Address already in use", name, a)
		}
		taken[a] = true
	}
	return nil
}

// alone refuses parts of a subnet, of which the gateway may be one, where no subnet is given.
func (p *Pool) alone(gateway netip.Addr) error {
	if gateway.IsValid() || p.Range.IsValid() {
		return words.Invalid("every ip-range or gateway must have a corresponding subnet")
	}
	if names := slices.Sorted(maps.Keys(p.Aux)); len(names) > 0 {
		return words.Invalid("no matching subnet for aux-address %s", p.Aux[names[0]])
	}
	return nil
}

// within is the subnet, or the part of it that addresses are given from.
func (p *Pool) within(subnet netip.Prefix) netip.Prefix {
	if p.Range.IsValid() {
		return p.Range
	}
	return subnet
}

// taken are the addresses that no container gets, one of which is the gateway.
func (p *Pool) taken(gateway netip.Addr) map[netip.Addr]bool {
	m := map[netip.Addr]bool{gateway: true}
	for _, a := range p.Aux {
		m[a] = true
	}
	return m
}

// next is the address after another one in the part that addresses are given from; its first one comes after its last one.
func (p *Pool) next(subnet netip.Prefix, a netip.Addr) netip.Addr {
	part := p.within(subnet)
	if a = a.Next(); !part.Contains(a) {
		a = part.Addr()
	}
	return a
}
