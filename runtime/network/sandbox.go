package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network/dns"
)

// An Attachment asks for a container to be connected to a network.
type Attachment struct {
	Network   string           // a name or an ID
	Aliases   []string         // more names of the container in this network
	Links     []Link           // more names of others, for this container alone
	Address   netip.Addr       // not valid means one that is free
	IPv6      netip.Addr       // the same
	MAC       net.HardwareAddr // empty means one made of the address
	Interface string           // in the container; empty means the first of "eth0", "eth1" and so on that is free
}

// A Link is another name of a container, by its name, an alias or its ID, that one other container knows.
type Link struct{ Container, Alias string }

// An Endpoint is what connects a container to a network.
type Endpoint struct {
	ID        string       `json:"id"` // 64 hexadecimal digits
	Network   string       `json:"network"`
	NetworkID string       `json:"networkId"`
	Container string       `json:"container"`         // its ID; empty for one that ends with its command
	Name      string       `json:"name,omitempty"`    // of the container
	Aliases   []string     `json:"aliases,omitempty"` // other names in this network
	Links     []Link       `json:"links,omitempty"`   // names of others in this network, for this container
	Interface string       `json:"interface"`         // in the container: "eth0", "eth1"
	Address   netip.Prefix `json:"address"`           // not valid if the container has none (pasta, without a way out)
	Gateway   netip.Addr   `json:"gateway"`           // where it reaches this machine; not valid if it cannot (pasta)
	Place6
	MAC      net.HardwareAddr `json:"mac"`
	Bindings []Binding        `json:"bindings,omitempty"` // ports of this machine that lead to this address
}

// Options say what network a container gets.
type Options struct {
	Container string       // its ID
	Name      string       // its name
	Networks  []Attachment // in the order of the interfaces; the first that is not internal is the way out
	Ports     []Port

	// Namespace is what [runtime.BeginNetworkNamespace] returned to a caller who knew early that there would be a sandbox; nil
	// has one made. Prepare calls it once, whatever comes of the sandbox; that of an ordinary user does not.
	Namespace func() (*os.File, error)
}

// A Sandbox is the network of one container: a namespace, what connects it to networks, the ports of this machine that lead
// to it, and its name server. All of it belongs to the process that made it, and ends with that process or with Close, but
// for elements of firewall rules, which the next process that makes or closes one takes away. Safe for concurrent use.
type Sandbox struct {
	Namespace *os.File // for runtime.Network, with Mode "default"

	store     *Store
	container string
	pasta     func() error // ends it
	ports     *publication
	names     *dns.Server

	mu     sync.Mutex // guards what follows
	name   string
	leases []*lease

	upstream []netip.AddrPort // of names
}

// Prepare makes the network of a container. If a port of this machine is taken it fails with a *PortError. The error says
// why containers have none but a loopback interface here.
func (s *Store) Prepare(ctx context.Context, o Options) (*Sandbox, error) {
	if rootless, _ := runtime.Rootless(); rootless {
		return s.userMode(ctx, o)
	}
	namespace := o.Namespace
	if namespace == nil {
		namespace = runtime.BeginNetworkNamespace() // it takes the kernel longer than all else
	}
	b := &Sandbox{store: s, container: o.Container, name: o.Name}
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.join(ctx, o.Networks, o.Ports)
	var spaceErr error
	b.Namespace, spaceErr = namespace()
	if err = errors.Join(err, spaceErr, ctx.Err()); err == nil {
		err = b.plug(b.leases)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// endpoint makes up what connects the container to a network.
func (b *Sandbox) endpoint(u *usage, n *Network, a Attachment) (e Endpoint, err error) {
	if n.Predefined() && (a.Address.IsValid() || a.IPv6.IsValid()) {
		return e, errors.New("user specified IP address is supported on user defined networks only")
	}
	if n.Predefined() && len(a.Aliases) > 0 {
		return e, errors.New("network-scoped alias is supported only for containers in user defined networks")
	}
	address, err := b.store.account.address(u, n, a.Address)
	if err != nil {
		return e, err
	}
	id := make([]byte, 32)
	rand.Read(id)
	e = Endpoint{
		ID: hex.EncodeToString(id), Network: n.Name, NetworkID: n.ID, Container: b.container, Name: b.name, Aliases: a.Aliases, Links: a.Links,
		Interface: a.Interface, Address: netip.PrefixFrom(address, n.Subnet.Bits()), Gateway: n.Gateway, MAC: a.MAC,
	}
	if b.hasInterface(e.Interface) {
		return e, words.Refused("the container has an interface %s already: give the one in network %s another name", e.Interface, n.Name)
	}
	if e.Place6, err = u.place6(n, address, a.IPv6); err != nil {
		return e, err
	}
	if len(e.MAC) == 0 {
		// Made of the address, so that what others remember of its last owner holds for the next. 2 is for addresses that no
		// maker of cards gives.
		e.MAC = append(net.HardwareAddr{2, 0x42}, address.AsSlice()...)
	}
	return e, nil
}

// way is the endpoint that leads out, and that published ports lead to; nil if there is none.
func (b *Sandbox) way() *lease {
	for _, l := range b.leases {
		if !l.network.Internal {
			return l
		}
	}
	return nil
}

// ways are the gateways by which the container reaches everything: one for IPv4 and one for IPv6, if there are.
func (b *Sandbox) ways() (list []netip.Addr) {
	if way := b.way(); way != nil {
		list = append(list, way.Gateway)
	}
	for _, l := range b.leases {
		if !l.network.Internal && l.Gateway6.IsValid() {
			return append(list, l.Gateway6)
		}
	}
	return list
}

// bind lets the container's ports lead to the endpoint that is the way out, and no other.
func (b *Sandbox) bind(u *usage) (change []*request, err error) {
	if b.ports == nil {
		return nil, nil
	}
	way := b.way()
	b.ports.lead(way)
	for _, l := range b.leases {
		var bindings []Binding
		if l == way {
			bindings = b.ports.bindings()
		}
		if slices.Equal(l.Bindings, bindings) {
			continue
		}
		change = append(change, bindingElements(deleteElements, l.Endpoint)...)
		l.Bindings = bindings
		change = append(change, bindingElements(addElements, l.Endpoint)...)
		if err := errors.Join(l.save(b.store.account), mayRouteLocal(l.network.bridge())); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(u.endpoints, func(e Endpoint) bool { return e.ID == l.ID })
		u.endpoints[i] = l.Endpoint
	}
	return change, nil
}

// plug makes interfaces, and the default route.
func (b *Sandbox) plug(leases []*lease) error {
	for i, l := range leases {
		var ways []netip.Addr
		if i == len(leases)-1 { // when all are there
			ways = b.ways()
		}
		if err := l.plug(b.Namespace, ways); err != nil {
			return err
		}
	}
	b.askServers()
	return nil
}

// Endpoints returns what connects the container, in the order of the interfaces.
func (b *Sandbox) Endpoints() []Endpoint {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []Endpoint
	for _, l := range b.leases {
		list = append(list, l.Endpoint)
	}
	return list
}

// Bindings returns the ports of this machine that lead to the container.
func (b *Sandbox) Bindings() []Binding { return b.ports.bindings() }

// Close gives back all that the container's network took.
func (b *Sandbox) Close() error {
	b.mu.Lock()
	names := b.names
	b.names = nil
	b.mu.Unlock()
	var err error
	if names != nil {
		err = names.Close() // which waits for those that ask for endpoints
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(err, b.close())
}

func (b *Sandbox) close() error {
	var errs []error
	if b.pasta == nil {
		errs = append(errs, b.leave()) // before the ports are anybody's
	}
	errs = append(errs, b.ports.close())
	if b.Namespace != nil {
		errs = append(errs, b.Namespace.Close())
	}
	if b.pasta != nil {
		errs = append(errs, b.pasta())
	}
	return errors.Join(errs...)
}

// leave gives addresses back, and before that takes ports out of the firewall's sets: who dies in between, or fails, leaves a file that
// says which.
func (b *Sandbox) leave() error {
	var change []*request
	for _, l := range b.leases {
		change = append(change, bindingElements(deleteElements, l.Endpoint)...)
	}
	giveBack := (*lease).release
	var errs []error
	if len(change) > 0 { // else there is nothing that needs the lock
		lock, err := b.store.account.lock(context.Background())
		if err != nil {
			return err
		}
		defer lock.Close()
		u, err := b.store.account.sweep()
		if err == nil {
			for _, l := range b.leases {
				u.without(l.Endpoint)
			}
			err = errors.Join(u.apply(change), forgetPeers(b.ports.bindings()))
		}
		if err != nil {
			giveBack = (*lease).abandon
		}
		errs = append(errs, err)
	}
	for _, l := range b.leases {
		errs = append(errs, giveBack(l, b.store.account))
	}
	b.leases = nil
	return errors.Join(errs...)
}
