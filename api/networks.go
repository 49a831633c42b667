package api

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/inspect"
)

// networkRoutes are about networks.
func networkRoutes() []route {
	return []route{
		{method: http.MethodGet, pattern: "/networks", do: listNetworks},
		{method: http.MethodPost, pattern: "/networks/create", do: createNetwork},
		{method: http.MethodPost, pattern: "/networks/prune", do: pruneNetworks},
		{method: http.MethodGet, pattern: "/networks/{name}", do: inspectNetwork},
		{method: http.MethodDelete, pattern: "/networks/{name}", do: removeNetwork},
		{method: http.MethodPost, pattern: "/networks/{name}/connect", do: connectNetwork},
		{method: http.MethodPost, pattern: "/networks/{name}/disconnect", do: disconnectNetwork},
	}
}

func listNetworks(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	c.ensureBridge()
	list, err := c.home.InspectNetworks(filters)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, list)
}

// ensureBridge gives the default network its addresses: docker has made its bridge before the first request, and clients dial the gateway that
// they are told. Where it cannot be made the network is shown without addresses, and the first container fails with the cause.
func (c *call) ensureBridge() { _ = c.home.EnsureDefaultNetwork(c.ctx()) }

func inspectNetwork(c *call) error {
	c.ensureBridge()
	n, err := c.home.InspectNetwork(c.name)
	if err != nil {
		return err
	}
	if scope := c.query.Get("scope"); scope != "" && scope != n.Scope {
		return notFound(&forge.NoNetworkError{Name: c.name})
	}
	return c.reply(http.StatusOK, n)
}

// A networkRequest is what a client sends to create a network.
type networkRequest struct {
	Name       string
	Driver     string
	Scope      string
	EnableIPv4 *bool
	EnableIPv6 bool
	Internal   bool
	Ingress    bool
	ConfigOnly bool
	IPAM       struct {
		Driver string
		Config []inspect.Range
	}
	Options, Labels map[string]string
}

// check refuses what forge's networks do not have.
func (n *networkRequest) check() error {
	switch {
	case n.Name == "":
		return invalid(errors.New("invalid name: name is empty"))
	case n.Driver != "" && n.Driver != "bridge" && n.Driver != "default":
		return notFound(fmt.Errorf("plugin %q not found: forge has networks of the driver bridge", n.Driver))
	case n.IPAM.Driver != "" && n.IPAM.Driver != "default":
		return notFound(fmt.Errorf("plugin %q not found: forge has the address management default", n.IPAM.Driver))
	case n.Scope != "" && n.Scope != "local", n.Ingress:
		return invalid(errors.New("a network of a swarm cannot be made: forge is no swarm"))
	case n.ConfigOnly:
		return invalid(errors.New("a network that is configuration only cannot be made: forge has no drivers that take one"))
	}
	return nil
}

func createNetwork(c *call) error {
	var n networkRequest
	if err := c.read(&n, bodyRequired); err != nil {
		return err
	}
	if err := n.check(); err != nil {
		return err
	}
	o := forge.NetworkOptions{Name: n.Name, NoIPv4: n.EnableIPv4 != nil && !*n.EnableIPv4, IPv6: n.EnableIPv6, Internal: n.Internal, Labels: assignments(n.Labels), Options: assignments(n.Options)}
	for _, s := range n.IPAM.Config {
		if s.Subnet != "" {
			o.Subnets = append(o.Subnets, s.Subnet)
		}
		if s.Gateway != "" {
			o.Gateways = append(o.Gateways, s.Gateway)
		}
		if s.IPRange != "" {
			o.Ranges = append(o.Ranges, s.IPRange)
		}
		o.Aux = append(o.Aux, assignments(s.AuxiliaryAddresses)...)
	}
	id, err := c.home.CreateNetwork(c.ctx(), o)
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, map[string]string{"Id": id, "Warning": ""})
}

// assignments are pairs as command lines have them, sorted: K=V.
func assignments(pairs map[string]string) (list []string) {
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		list = append(list, k+"="+pairs[k])
	}
	return list
}

func removeNetwork(c *call) error {
	if err := c.home.RemoveNetwork(c.ctx(), c.name); err != nil {
		return err
	}
	return c.done()
}

func connectNetwork(c *call) error {
	var body struct {
		Container      string
		EndpointConfig *inspect.Endpoint
	}
	if err := c.read(&body, bodyRequired); err != nil {
		return err
	}
	o, err := endpointOptions(body.EndpointConfig)
	if err != nil {
		return invalid(err)
	}
	if err := c.home.ConnectContainer(c.ctx(), c.name, body.Container, o); err != nil {
		return err
	}
	return c.ok()
}

func disconnectNetwork(c *call) error {
	var body struct {
		Container string
		Force     bool
	}
	if err := c.read(&body, bodyRequired); err != nil {
		return err
	}
	if err := c.home.DisconnectContainer(c.ctx(), c.name, body.Container); err != nil {
		return err
	}
	return c.ok()
}

func pruneNetworks(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	removed, err := c.home.PruneNetworks(c.ctx(), filters)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string][]string{"NetworksDeleted": removed})
}
