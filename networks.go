package forge

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event/journal"
	"github.com/forge-build/forge/inspect"
	"github.com/forge-build/forge/runtime/network"
)

// A NoNetworkError says that no network has a name or an ID.
type NoNetworkError = network.NotFoundError

// A NetworkInUseError says that containers are connected to a network.
type NetworkInUseError = network.InUseError

// NetworkOptions say what network to create; only the name is needed.
type NetworkOptions struct {
	Name     string
	Subnets  []string // at most one of IPv4 and one of IPv6; one that is not given is one that is free
	Gateways []string // the same; one that is not given is the first address of the subnet
	Ranges   []string // the same; parts of the subnets, of which containers are given addresses; one that is not given is the subnet
	Aux      []string // NAME=IP, of what is no container: never given to one
	NoIPv4   bool     // without IPv4: is refused
	IPv6     bool     // IPv6 besides IPv4
	Internal bool     // without a way out
	Labels   []string
	Options  []string // K=V
}

// CreateNetwork makes a network and returns its ID.
func (h *Home) CreateNetwork(ctx context.Context, o NetworkOptions) (string, error) {
	if o.NoIPv4 {
		return "", words.Invalid("a network without IPv4 cannot be made: leave out --ipv4=false")
	}
	c := network.Config{Name: o.Name, Internal: o.Internal, Labels: pairs(o.Labels), Options: pairs(o.Options)}
	if err := o.addresses(&c); err != nil {
		return "", err
	}
	n, err := h.Networks().Create(ctx, c)
	if err != nil {
		return "", err
	}
	h.networkEvent(n.Name, n.ID, "create", "")
	return n.ID, nil
}

// pairs reads K=V.
func pairs(list []string) map[string]string {
	m := map[string]string{}
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

// ListNetworks lists networks by name, as far as docker's filters driver, id, label, name, type and dangling let them.
func (h *Home) ListNetworks(filters []string) ([]*network.Network, error) {
	list, err := h.Networks().List()
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		if err := h.dateNetwork(n); err != nil {
			return nil, err
		}
	}
	for _, f := range filters {
		key, value, err := cutFilter(f)
		if err != nil {
			return nil, err
		}
		var takes func(n *network.Network) bool
		switch key {
		case "driver":
			takes = func(n *network.Network) bool { return n.Driver == value }
		case "id":
			takes = func(n *network.Network) bool { return strings.HasPrefix(n.ID, value) }
		case "name":
			takes = func(n *network.Network) bool { return strings.Contains(n.Name, value) }
		case "label":
			takes = func(n *network.Network) bool { return hasLabel(n.Labels, value) }
		case "type":
			takes = func(n *network.Network) bool { return n.Predefined() == (value == "builtin") }
		case "dangling":
			takes = func(n *network.Network) bool {
				users, err := h.Networks().Endpoints(n)
				return err == nil && (len(users) == 0 && !n.Predefined()) == (value == "true" || value == "1")
			}
		default:
			return nil, words.Invalid("invalid filter '%s'", key)
		}
		list = slices.DeleteFunc(list, func(n *network.Network) bool { return !takes(n) })
	}
	return list, nil
}

// dateNetwork gives a network that nobody has created the age of the store.
func (h *Home) dateNetwork(n *network.Network) error {
	if !n.Created.IsZero() {
		return nil
	}
	info, err := os.Stat(h.versionFile())
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	n.Created = info.ModTime().UTC()
	return nil
}

// EnsureDefaultNetwork makes the bridge of the default network before its first container, unless it is there, so that who inspects the
// network finds the gateway that published ports are reached at. It does nothing for an ordinary user, whose containers have no bridge.
func (h *Home) EnsureDefaultNetwork(ctx context.Context) error {
	return h.Networks().EnsureDefault(ctx)
}

// InspectNetwork shows everything about a network.
func (h *Home) InspectNetwork(nameOrID string) (*inspect.Network, error) {
	n, err := h.Networks().Find(nameOrID)
	if err != nil {
		return nil, err
	}
	return h.inspectNetwork(n)
}

// InspectNetworks shows everything about the networks that ListNetworks lists.
func (h *Home) InspectNetworks(filters []string) ([]*inspect.Network, error) {
	list, err := h.ListNetworks(filters)
	if err != nil {
		return nil, err
	}
	all := []*inspect.Network{}
	for _, n := range list {
		i, err := h.inspectNetwork(n)
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

func (h *Home) inspectNetwork(n *network.Network) (*inspect.Network, error) {
	if err := h.dateNetwork(n); err != nil {
		return nil, err
	}
	i := &inspect.Network{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: true, EnableIPv6: n.Subnet6.IsValid(), Internal: n.Internal,
		IPAM: inspect.IPAM{Driver: "default", Config: []inspect.Range{}}, Containers: map[string]inspect.Member{},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	maps.Copy(i.Options, n.Options)
	maps.Copy(i.Labels, n.Labels)
	if n.Subnet.IsValid() {
		i.IPAM.Config = append(i.IPAM.Config, rangeOf(n.Subnet, n.Gateway, &n.Pool))
	}
	if n.Subnet6.IsValid() {
		i.IPAM.Config = append(i.IPAM.Config, rangeOf(n.Subnet6, n.Gateway6, &n.Pool6))
	}
	members, err := h.Networks().Endpoints(n)
	for _, e := range members {
		if e.Container != "" {
			m := inspect.Member{Name: e.Name, EndpointID: e.ID, MacAddress: e.MAC.String(), IPv4Address: e.Address.String()}
			if e.Address6.IsValid() {
				m.IPv6Address = e.Address6.String()
			}
			i.Containers[e.Container] = m
		}
	}
	return i, err
}

// RemoveNetwork removes a network that no container is connected to.
func (h *Home) RemoveNetwork(ctx context.Context, nameOrID string) error {
	n, err := h.Networks().Remove(ctx, nameOrID)
	if err != nil {
		return err
	}
	h.networkEvent(n.Name, n.ID, "destroy", "")
	return nil
}

// PruneNetworks removes the networks that no container, running or not, is to be connected to, as far as docker's filters let
// it, and returns their names.
func (h *Home) PruneNetworks(ctx context.Context, filters []string) ([]string, error) {
	takes, err := pruneFilter(filters, time.Now())
	if err != nil {
		return nil, err
	}
	users, err := h.imageUsers()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, r := range users {
		for _, a := range r.Config.Networks {
			_, status, err := h.containers().Run(r.ID)
			used[a.Network] = used[a.Network] || err == nil && status != state.Exited && status != state.Created
		}
	}
	ids := map[string]string{}
	removed, err := h.Networks().Prune(ctx, func(n *network.Network) bool {
		ids[n.Name] = n.ID
		return !used[n.Name] && takes(&ContainerInfo{Created: n.Created, Labels: n.Labels})
	})
	for _, name := range removed {
		h.networkEvent(name, ids[name], "destroy", "")
	}
	h.pruneEvent(journal.Network, 0)
	return removed, err
}
