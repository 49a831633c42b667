package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Connect connects the container to one more network, while it runs.
func (b *Sandbox) Connect(ctx context.Context, a Attachment) (e Endpoint, err error) {
	if err := userNetworks(); err != nil {
		return e, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.leases)
	err = b.join(ctx, []Attachment{a}, nil)
	if err == nil {
		err = b.plug(b.leases[before:])
	}
	if err == nil {
		return b.leases[before].Endpoint, nil
	}
	if len(b.leases) > before {
		err = errors.Join(err, b.part(context.WithoutCancel(ctx), before))
	}
	return e, err
}

// named are attachments that all have a name of the interface: where it is left to us the first that no interface of the container has, and
// that none of the others asks for, also one that comes later.
func (b *Sandbox) named(wanted []Attachment) []Attachment {
	list := slices.Clone(wanted)
	for i := range list {
		for n := 0; list[i].Interface == ""; n++ {
			name := fmt.Sprintf("eth%d", n)
			if !b.hasInterface(name) && !slices.ContainsFunc(list, func(a Attachment) bool { return a.Interface == name }) {
				list[i].Interface = name
			}
		}
	}
	return list
}

func (b *Sandbox) hasInterface(name string) bool {
	return slices.ContainsFunc(b.leases, func(l *lease) bool { return l.Interface == name })
}

// Disconnect takes the container off a network, while it runs.
func (b *Sandbox) Disconnect(ctx context.Context, nameOrID string) error {
	if err := userNetworks(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.store.Find(nameOrID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(b.leases, func(l *lease) bool { return l.NetworkID == n.ID })
	if i < 0 {
		return fmt.Errorf("container %s is not connected to network %s", b.container, n.Name)
	}
	// Its interface on this machine is removed, for that in the container may have another name by now, or be gone.
	if err := removeLink(b.leases[i].outer); err != nil {
		return err
	}
	if err := b.part(ctx, i); err != nil {
		return err
	}
	b.askServers()
	if way := b.way(); way != nil && len(way.Bindings) > 0 {
		if err := way.open(); err != nil {
			return err
		}
	}
	return route(b.Namespace, b.ways()...)
}

// part gives up the endpoint of a number. Ports that led to it lead to the next way out.
func (b *Sandbox) part(ctx context.Context, i int) error {
	lock, err := b.store.account.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	u, err := b.store.account.sweep()
	if err != nil {
		return err
	}
	l := b.leases[i]
	b.leases = slices.Delete(b.leases, i, i+1)
	u.without(l.Endpoint)
	change := bindingElements(deleteElements, l.Endpoint)
	more, err := b.bind(u)
	if change = append(change, more...); err == nil && len(change) > 0 {
		err = b.apply(u, change)
	}
	if err != nil {
		return errors.Join(err, l.abandon(b.store.account))
	}
	return l.release(b.store.account)
}

// Rename gives the container another name in all its networks.
func (b *Sandbox) Rename(ctx context.Context, name string) error {
	return b.Adopt(ctx, b.container, name)
}

// Adopt gives the network to a container, with its ID and its name: one that was prepared for none.
func (b *Sandbox) Adopt(ctx context.Context, container, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	lock, err := b.store.account.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	b.container, b.name = container, name
	var errs []error
	for _, l := range b.leases {
		if l.Container, l.Name = container, name; b.pasta == nil {
			errs = append(errs, l.save(b.store.account))
		}
	}
	return errors.Join(errs...)
}
