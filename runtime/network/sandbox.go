package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
)

// An Attachment asks for a container to be connected to a network.
type Attachment struct {
	Network string           // a name or an ID
	Aliases []string         // more names of the container in this network
	Address netip.Addr       // not valid means one that is free
	MAC     net.HardwareAddr // empty means one made of the address
}

// An Endpoint is what connects a container to a network.
type Endpoint struct {
	ID        string           `json:"id"` // 64 hexadecimal digits
	Network   string           `json:"network"`
	NetworkID string           `json:"networkId"`
	Container string           `json:"container"`         // its ID; empty for one that ends with its command
	Name      string           `json:"name,omitempty"`    // of the container
	Aliases   []string         `json:"aliases,omitempty"` // other names in this network
	Interface string           `json:"interface"`         // in the container: "eth0", "eth1"
	Address   netip.Prefix     `json:"address"`
	Gateway   netip.Addr       `json:"gateway"`
	MAC       net.HardwareAddr `json:"mac"`
	Bindings  []Binding        `json:"bindings,omitempty"` // ports of this machine that lead to this address
}

// Options say what network a container gets.
type Options struct {
	Container string       // its ID
	Name      string       // its name
	Networks  []Attachment // in the order of the interfaces; the first that is not internal is the way out
	Ports     []Port
}

// A Sandbox is the network of one container: a namespace, what connects it to networks, the ports of this machine that lead
// to it, and its name server. All of it belongs to the process that made it, and ends with that process or with Close, but
// for elements of firewall rules, which the next process that makes or closes one takes away. Safe for concurrent use.
type Sandbox struct {
	Namespace *os.File     // for runtime.Network, with Mode "default"
	Address   netip.Prefix // of the container
	Gateway   netip.Addr   // where the container reaches this machine; not valid if it cannot (pasta)

	release func() error
	relay   *relay
}

// Prepare makes the network of a container. If a port of this machine is taken it fails with a *PortError.
func (s *Store) Prepare(ctx context.Context, o Options) (*Sandbox, error) {
	return nil, errors.ErrUnsupported
}

// Endpoints returns what connects the container, in the order of the interfaces.
func (b *Sandbox) Endpoints() []Endpoint { return nil }

// Bindings returns the ports of this machine that lead to the container.
func (b *Sandbox) Bindings() []Binding { return nil }

// Connect connects the container to one more network, while it runs.
func (b *Sandbox) Connect(ctx context.Context, a Attachment) (Endpoint, error) {
	return Endpoint{}, errors.ErrUnsupported
}

// Disconnect takes the container off a network, while it runs.
func (b *Sandbox) Disconnect(ctx context.Context, nameOrID string) error {
	return errors.ErrUnsupported
}

// Rename gives the container another name in all its networks.
func (b *Sandbox) Rename(ctx context.Context, name string) error { return errors.ErrUnsupported }

// NameServer starts a name server for the container and returns its address, for resolv.conf. It knows the names of other
// containers in the same networks that were created, and asks servers of this machine for all others; it does so from this
// machine's network, so that they may be on its loopback interface. It lasts until Close. A second call changes the servers.
func (b *Sandbox) NameServer(servers []netip.AddrPort) (netip.Addr, error) {
	return netip.Addr{}, errors.ErrUnsupported
}

// Close gives back all that the container's network took.
func (b *Sandbox) Close() error {
	return errors.Join(b.relay.close(), b.Namespace.Close(), b.release())
}

// A PortError says that a port of this machine is taken.
type PortError struct {
	Binding Binding
	Err     error // why, if it is not in use by somebody else
}

func (e *PortError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("Bind for %s failed: %v", e.Binding.host(), e.Err)
	}
	return fmt.Sprintf("Bind for %s failed: port is already allocated", e.Binding.host())
}

func (e *PortError) Unwrap() error { return e.Err }
