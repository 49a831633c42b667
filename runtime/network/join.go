package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// join takes addresses and ports, and makes sure of bridges and rules.
func (b *Sandbox) join(ctx context.Context, wanted []Attachment, ports []Port) error {
	return b.store.visit(ctx, func(u *usage) error { return b.take(u, wanted, ports) })
}

func (b *Sandbox) take(u *usage, wanted []Attachment, ports []Port) (err error) {
	var change []*request
	var made []*Network
	defer func() {
		for _, n := range made {
			if err != nil && !b.besides(u, n) { // nothing of the host is touched in vain
				err = errors.Join(err, b.store.account.drop(u, n))
			}
		}
	}()
	for _, a := range b.named(wanted) {
		n, more, err := b.lease(u, a)
		if n != nil {
			made = append(made, n)
		}
		if err != nil {
			return err
		}
		change = append(change, more...)
	}
	if len(ports) > 0 {
		if b.ports, err = reserve(ports); err != nil {
			return err
		}
	}
	more, err := b.bind(u)
	if err != nil {
		return err
	}
	return b.apply(u, append(change, more...))
}

// besides reports whether other containers are in a network: their bridge may have been taken away by hand.
func (b *Sandbox) besides(u *usage, n *Network) bool {
	return slices.ContainsFunc(u.of(n), func(e Endpoint) bool {
		return !slices.ContainsFunc(b.leases, func(l *lease) bool { return l.ID == e.ID })
	})
}

// apply changes the firewall, and lets peers of ports that lead elsewhere now follow.
func (b *Sandbox) apply(u *usage, change []*request) error {
	if err := u.apply(change); err != nil {
		return err
	}
	for _, n := range u.fresh {
		if err := b.store.account.enter(n); err != nil {
			return err
		}
	}
	u.fresh = nil
	return forgetPeers(b.ports.bindings())
}

// lease takes an address for an attachment and makes sure of the bridge. If it had to be made, its network is returned; change
// enters a network into the firewall's sets.
func (b *Sandbox) lease(u *usage, a Attachment) (made *Network, change []*request, err error) {
	n := u.ready[a.Network]
	if n == nil {
		if n, err = b.store.Find(a.Network); err != nil {
			return nil, nil, err
		}
	}
	if n.Driver != "bridge" {
		return nil, nil, fmt.Errorf("container cannot be connected to network %s beside others", n.Name)
	}
	if slices.ContainsFunc(b.leases, func(l *lease) bool { return l.NetworkID == n.ID }) {
		return nil, nil, fmt.Errorf("endpoint with name %s already exists in network %s", b.name, n.Name)
	}
	if u.ready[a.Network] == nil {
		if made, change, err = b.store.makeReady(u, n); err != nil {
			return made, nil, err
		}
		if u.ready == nil {
			u.ready = map[string]*Network{}
		}
		u.ready[a.Network] = n
	}
	e, err := b.endpoint(u, n, a)
	if err != nil {
		return made, nil, err
	}
	l := &lease{Endpoint: e, network: n}
	if err := l.save(b.store.account); err != nil {
		return made, nil, err
	}
	u.endpoints = append(u.endpoints, e)
	b.leases = append(b.leases, l)
	return made, change, nil
}

// makeReady makes sure of a network's bridge, and enters the network if it is not. What it returns is as lease does.
func (s *Store) makeReady(u *usage, n *Network) (made *Network, change []*request, err error) {
	if n.Subnet6.IsValid() {
		if err := s.ensure("forwarding of IPv6", mayForward6); err != nil {
			return nil, nil, err
		}
	}
	was, err := ensureBridge(n)
	if err != nil {
		return nil, nil, err
	}
	if !was {
		made = n
	}
	if was && slices.ContainsFunc(u.networks, func(o *Network) bool { return o.ID == n.ID }) {
		return nil, nil, nil
	}
	if err := os.MkdirAll(s.account.dir(n.ID), 0o700); err != nil {
		return made, nil, err
	}
	n.Rules6 = true // unless the kernel refuses it
	u.fresh = append(u.fresh, n)
	u.networks = append(slices.DeleteFunc(u.networks, func(o *Network) bool { return o.ID == n.ID }), n)
	return made, networkElements(addElements, n), nil
}
