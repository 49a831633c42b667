package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/forge-build/forge"
)

type networkCmd struct {
	Create     networkCreateCmd     `cmd:"" help:"Create a network."`
	Ls         networkLsCmd         `cmd:"" aliases:"list" help:"List networks."`
	Inspect    networkInspectCmd    `cmd:"" help:"Show everything about networks, as JSON."`
	Rm         networkRmCmd         `cmd:"" aliases:"remove" help:"Remove networks."`
	Prune      networkPruneCmd      `cmd:"" help:"Remove networks that no container uses."`
	Connect    networkConnectCmd    `cmd:"" help:"Connect a container to a network."`
	Disconnect networkDisconnectCmd `cmd:"" help:"Take a container off a network."`
	Reload     networkReloadCmd     `cmd:"" help:"Apply the rules of the firewall anew."`
}

type networkCreateCmd struct {
	Driver     string   `short:"d" help:"bridge." default:"bridge" enum:"bridge" placeholder:"DRIVER"`
	Subnet     []string `help:"Addresses of the network: of IPv4, of IPv6, or each." placeholder:"CIDR"`
	Gateway    []string `help:"Address of this machine in it." placeholder:"IP"`
	IPRange    []string `name:"ip-range" help:"Part of the subnet, of which containers are given addresses." placeholder:"CIDR"`
	AuxAddress []string `sep:"none" help:"Address of something else: no container is given it." placeholder:"NAME=IP"`
	IPv4       bool     `name:"ipv4" help:"IPv4, which every network has." default:"true"`
	IPv6       bool     `name:"ipv6" help:"IPv6 besides IPv4; without a subnet, one that is free."`
	Internal   bool     `help:"Without a way out."`
	Scope      string   `help:"local." default:"local" placeholder:"SCOPE"`
	Attachable bool     `hidden:""`
	Labels     []string `name:"label" sep:"none" help:"Label." placeholder:"K[=V]"`
	Options    []string `name:"opt" short:"o" sep:"none" help:"Option of the driver." placeholder:"K=V"`
	Name       string   `arg:"" help:"Name." placeholder:"NAME"`
}

func (c *networkCreateCmd) Run(s *session) error {
	if c.Scope != "local" {
		return fmt.Errorf("a network of the scope %s cannot be made: forge is no swarm, and its networks are of this machine: leave out --scope", c.Scope)
	}
	return s.withHome(func(h *forge.Home) error {
		id, err := h.CreateNetwork(s.ctx, forge.NetworkOptions{
			Name: c.Name, Subnets: c.Subnet, Gateways: c.Gateway, Ranges: c.IPRange, Aux: c.AuxAddress, NoIPv4: !c.IPv4, IPv6: c.IPv6, Internal: c.Internal, Labels: c.Labels, Options: c.Options,
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, id)
		return err
	})
}

type networkLsCmd struct {
	Quiet   bool     `short:"q" help:"Only IDs."`
	NoTrunc bool     `help:"Whole IDs."`
	Filter  []string `short:"f" sep:"none" help:"driver, id, label, name, type=custom|builtin or dangling." placeholder:"KEY=VALUE"`
	Format  string   `help:"A Go template, or json." placeholder:"TEMPLATE"`
}

// A networkRow is what a template of `forge network ls --format` sees, under docker's names.
type networkRow struct {
	ID, Name, Driver, Scope, CreatedAt, Internal, IPv4, IPv6, Labels string

	labels map[string]string
}

// Label is the value of a label.
func (r networkRow) Label(name string) string { return r.labels[name] }

func (c *networkLsCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		list, err := h.ListNetworks(c.Filter)
		if err != nil {
			return err
		}
		var rows []networkRow
		for _, n := range list {
			r := networkRow{
				ID: n.ID, Name: n.Name, Driver: n.Driver, Scope: "local", CreatedAt: n.Created.String(),
				Internal: fmt.Sprint(n.Internal), Labels: joinLabels(n.Labels), labels: n.Labels,
				IPv4: fmt.Sprint(n.Driver == "bridge"), IPv6: fmt.Sprint(n.Subnet6.IsValid()),
			}
			if !c.NoTrunc {
				r.ID = r.ID[:min(12, len(r.ID))]
			}
			rows = append(rows, r)
		}
		format := c.Format
		switch {
		case c.Quiet && format == "":
			format = "{{.ID}}"
		case format == "" || format == "table":
			format = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
		}
		return printRows(s, format, rows, networkRow{
			ID: "NETWORK ID", Name: "NAME", Driver: "DRIVER", Scope: "SCOPE", CreatedAt: "CREATED AT", Internal: "INTERNAL",
			IPv4: "IPV4", IPv6: "IPV6", Labels: "LABELS",
		})
	})
}

type networkInspectCmd struct {
	Format  string   `short:"f" help:"A Go template instead of JSON." placeholder:"TEMPLATE"`
	Verbose bool     `short:"v" hidden:""`
	Names   []string `arg:"" help:"Names or IDs." placeholder:"NETWORK"`
}

func (c *networkInspectCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		var list []any
		var errs []error
		for _, name := range c.Names {
			n, err := h.InspectNetwork(name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			list = append(list, n)
		}
		show := inspectCmd{Format: c.Format}
		return errors.Join(append(errs, show.print(s, list))...)
	})
}

type networkRmCmd struct {
	Force bool     `short:"f" help:"No error for what is not there."`
	Names []string `arg:"" help:"Names or IDs." placeholder:"NETWORK"`
}

func (c *networkRmCmd) Run(s *session) error {
	return eachSays(s, c.Names, func(h *forge.Home, name string) (any, error) {
		err := h.RemoveNetwork(s.ctx, name)
		if _, missing := errors.AsType[*forge.NoNetworkError](err); missing && c.Force {
			return nil, nil
		}
		return name, err
	})
}

type networkPruneCmd containerPruneCmd

func (c *networkPruneCmd) Run(s *session) error {
	if ok, err := confirmed(s, c.Force, "all networks that no container uses"); err != nil || !ok {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		removed, err := h.PruneNetworks(s.ctx, c.Filter)
		if len(removed) > 0 {
			_, _ = fmt.Fprintf(s.out, "Deleted Networks:\n%s\n\n", strings.Join(removed, "\n"))
		}
		return err
	})
}

type networkConnectCmd struct {
	Alias     []string `sep:"none" help:"Another name in the network." placeholder:"NAME"`
	IP        string   `name:"ip" help:"Address in the network." placeholder:"IP"`
	IP6       string   `name:"ip6" help:"IPv6 address in the network." placeholder:"IP"`
	Link      []string `sep:"none" help:"Other container, which this one alone knows by ALIAS." placeholder:"CONTAINER[:ALIAS]"`
	DriverOpt []string `sep:"none" help:"com.docker.network.endpoint.ifname: name of the interface in the container." placeholder:"K=V"`
	Network   string   `arg:"" help:"Network." placeholder:"NETWORK"`
	Container string   `arg:"" help:"Container." placeholder:"CONTAINER"`
}

func (c *networkConnectCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		return h.ConnectContainer(s.ctx, c.Network, c.Container, forge.EndpointOptions{
			NetworkAliases: c.Alias, IP: c.IP, IP6: c.IP6, Links: c.Link, DriverOpts: c.DriverOpt,
		})
	})
}

type networkDisconnectCmd struct {
	Force     bool   `short:"f" hidden:""`
	Network   string `arg:"" help:"Network." placeholder:"NETWORK"`
	Container string `arg:"" help:"Container." placeholder:"CONTAINER"`
}

func (c *networkDisconnectCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error { return h.DisconnectContainer(s.ctx, c.Network, c.Container) })
}

type networkReloadCmd struct{}

func (c *networkReloadCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error { return h.Networks().Reload(s.ctx) })
}

// joinLabels are labels as docker lists them.
func joinLabels(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return strings.Join(list, ",")
}
