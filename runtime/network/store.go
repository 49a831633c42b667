package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// DefaultName is the network that is there without having been created. Containers in it do not know each other's names.
const DefaultName = "bridge"

// A Network is a bridge that containers are connected to, or one of the two that are none: "host" and "none".
type Network struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"` // 64 hexadecimal digits
	Created  time.Time         `json:"created"`
	Driver   string            `json:"driver"`  // "bridge", "host" or "null"
	Subnet   netip.Prefix      `json:"subnet"`  // not valid for the default network before its first use
	Gateway  netip.Addr        `json:"gateway"` // where containers reach this machine
	Internal bool              `json:"internal,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
}

// Predefined reports whether the network is there without having been created, and cannot be removed.
func (n *Network) Predefined() bool {
	return n.Name == DefaultName || n.Name == "host" || n.Name == "none"
}

// A Store keeps networks: a record for each that was created, and an account of what living processes use. Its methods are
// safe for concurrent use, by processes too.
type Store struct {
	records string
	account string
}

// Open names the directories of a store, which need not exist: one for records, which stay, and one for the account of what
// is in use, such as /run/forge/network, which all processes of root on this machine share.
func Open(records, account string) *Store { return &Store{records, account} }

// Config says what network to create. Only the name is needed.
type Config struct {
	Name     string
	Subnet   netip.Prefix // not valid means one that is free
	Gateway  netip.Addr   // not valid means the first address of the subnet
	Internal bool         // without a way out
	Labels   map[string]string
	Options  map[string]string
}

// A NotFoundError says that no network has the name or the ID.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("network %s not found", e.Name) }

// An InUseError says that containers are connected to a network which is to be removed.
type InUseError struct {
	Network   string
	Endpoints []Endpoint
}

func (e *InUseError) Error() string {
	var names []string
	for _, p := range e.Endpoints {
		names = append(names, fmt.Sprintf("name:%q id:%q", p.Name, p.Container))
	}
	return fmt.Sprintf("error while removing network: network %s has active endpoints (%s)", e.Network, strings.Join(names, ", "))
}

// Create makes a network. It exists for later processes, but its bridge is made when it is first used.
func (s *Store) Create(ctx context.Context, c Config) (*Network, error) {
	return nil, errors.ErrUnsupported
}

// List returns all networks by name, those that are there without having been created too.
func (s *Store) List(ctx context.Context) ([]*Network, error) { return nil, errors.ErrUnsupported }

// Find returns the network of a name, an ID, or the beginning of an ID that no other one has. It fails with a
// *NotFoundError if there is none.
func (s *Store) Find(ctx context.Context, nameOrID string) (*Network, error) {
	return nil, errors.ErrUnsupported
}

// Endpoints returns what is connected to a network, by address.
func (s *Store) Endpoints(ctx context.Context, n *Network) ([]Endpoint, error) {
	return nil, errors.ErrUnsupported
}

// Remove removes a network. It fails with an *InUseError while containers are connected to it.
func (s *Store) Remove(ctx context.Context, nameOrID string) (*Network, error) {
	return nil, errors.ErrUnsupported
}

// Reload applies all rules of the firewall anew, as after somebody has flushed them.
func (s *Store) Reload(ctx context.Context) error { return errors.ErrUnsupported }
