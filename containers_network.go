package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
)

// PortOptions say at which ports of this machine a container can be reached.
type PortOptions struct {
	Publish    []string `short:"p" sep:"none" help:"Port of this machine that leads to one of the container." placeholder:"[[IP:]PORT:]PORT"` // PORT[/tcp|/udp], also ranges
	PublishAll bool     `short:"P" help:"Publish all exposed ports, at any ports."`
	Expose     []string `sep:"none" help:"Port that the container serves." placeholder:"PORT"` // besides those of the image
}

// EndpointOptions say what a container is in the network that it is created with.
type EndpointOptions struct {
	NetworkAliases []string `name:"network-alias" sep:"none" help:"Another name in the network." placeholder:"NAME"`
	IP             string   `name:"ip" help:"Address in the network." placeholder:"IP"`
	IP6            string   `name:"ip6" help:"IPv6 address in the network." placeholder:"IP"`
	MACAddress     string   `name:"mac-address" help:"Hardware address in the network." placeholder:"MAC"`
	Links          []string `name:"link" sep:"none" help:"Other container, which this one alone knows by ALIAS." placeholder:"CONTAINER[:ALIAS]"`
	DriverOpts     []string `kong:"-"` // K=V
}

// An attachment is a network that a container is connected to whenever it runs, and what it is there.
type attachment struct {
	Network string
	EndpointOptions
}

// inContainer begins the name of a network that is that of another container.
const inContainer = "container:"

// ownNetwork reports whether a container has a network of its own: no other container's, not this machine's, and not none.
func ownNetwork(mode string) bool {
	return mode != "none" && mode != "host" && !strings.HasPrefix(mode, inContainer)
}

// attachments are what a container is created with: the network that was asked for.
func (h *Home) attachments(o *ContainerOptions) ([]attachment, error) {
	mode := cmp.Or(o.Network, "default")
	if mode == "default" {
		mode = network.DefaultName
	}
	created := ownNetwork(mode) && mode != network.DefaultName
	if err := checkLinks(mode, o.Links); err != nil {
		return nil, err
	}
	switch {
	case !created && len(o.NetworkAliases) > 0:
		return nil, errors.New("network-scoped aliases are only supported for user-defined networks")
	case !created && (o.IP != "" || o.IP6 != ""):
		return nil, errors.New("user specified IP address is supported on user defined networks only")
	case len(o.Publish) > 0 && !ownNetwork(mode) && mode != "host":
		return nil, errors.New("conflicting options: port publishing and the container type network mode")
	case strings.HasPrefix(mode, inContainer):
		_, err := h.findContainer(strings.TrimPrefix(mode, inContainer))
		return nil, err
	case !ownNetwork(mode):
		return nil, nil
	}
	n, err := h.Networks().Find(mode)
	if err != nil {
		return nil, err
	}
	a := attachment{n.Name, o.EndpointOptions}
	if n.Name == network.DefaultName {
		if a.Links, err = h.defaultLinks(o.Links); err != nil {
			return nil, err
		}
	}
	_, err = a.request("")
	return []attachment{a}, err
}

// request is the attachment of a container as the room of networks wants it. A host name that was asked for is a name in networks that have names.
func (a attachment) request(hostname string) (r network.Attachment, err error) {
	r = network.Attachment{Network: a.Network, Aliases: a.NetworkAliases}
	if r.Interface, err = interfaceName(a.DriverOpts); err != nil {
		return r, err
	}
	if a.Network != network.DefaultName { // which has them in hosts
		if r.Links, err = parseLinks(a.Links); err != nil {
			return r, err
		}
	}
	if hostname != "" && ownNetwork(a.Network) && a.Network != network.DefaultName && !slices.Contains(r.Aliases, hostname) {
		r.Aliases = append(slices.Clip(r.Aliases), hostname)
	}
	if a.IP != "" {
		if r.Address, err = netip.ParseAddr(a.IP); err != nil {
			return r, fmt.Errorf("invalid IP address: %s", a.IP)
		}
	}
	if a.IP6 != "" {
		if r.IPv6, err = netip.ParseAddr(a.IP6); err != nil || !r.IPv6.Is6() {
			return r, fmt.Errorf("invalid IPv6 address: %s", a.IP6)
		}
	}
	if a.MACAddress != "" {
		if r.MAC, err = net.ParseMAC(a.MACAddress); err != nil {
			return r, fmt.Errorf("%s is not a valid mac address", a.MACAddress)
		}
	}
	return r, nil
}

// ports are those that are published.
func (o *PortOptions) ports(img *image.Image) (list []network.Port, err error) {
	for _, text := range o.Publish {
		ports, err := network.ParsePorts(text)
		if err != nil {
			return nil, err
		}
		list = append(list, ports...)
	}
	if !o.PublishAll {
		return list, nil
	}
	exposed, err := o.exposed(img)
	if err != nil {
		return nil, err
	}
	published := map[network.Port]bool{}
	for _, p := range list {
		published[network.Port{Container: p.Container, Protocol: p.Protocol}] = true
	}
	return append(list, slices.DeleteFunc(exposed, func(p network.Port) bool { return published[p] })...), nil
}

// exposed are the ports that the image and the options expose, each once. An image says at which ports it serves, not where they lead.
func (o *PortOptions) exposed(img *image.Image) (list []network.Port, err error) {
	const most = 8 * 65535 // those that are said again count again
	seen, count := map[network.Port]bool{}, 0
	for _, text := range slices.Concat(slices.Sorted(maps.Keys(img.Config.Config.ExposedPorts)), o.Expose) {
		if strings.ContainsAny(text, ":=") {
			return nil, fmt.Errorf("invalid port format for --expose: %s", text)
		}
		ports, err := network.ParsePorts(text)
		if err != nil {
			return nil, fmt.Errorf("expose: %w", err)
		}
		if count += len(ports); count > most {
			return nil, errors.New("expose: more ports than there are")
		}
		for _, p := range ports {
			if !seen[p] {
				seen[p] = true
				list = append(list, p)
			}
		}
	}
	return list, nil
}

// connect makes the network of the container.
func (k *keeper) connect(ctx context.Context, mode string) (container.Network, error) {
	c, err := k.network(ctx, mode)
	if o := &k.record.Config; len(o.Search) > 0 || len(c.Search) == 0 {
		c.Search = o.Search
	}
	if o := &k.record.Config; len(o.Resolver) > 0 || len(c.Options) == 0 {
		c.Options = o.Resolver
	}
	return c, err
}

func (k *keeper) network(ctx context.Context, mode string) (container.Network, error) {
	o := &k.record.Config
	if other, ok := strings.CutPrefix(mode, inContainer); ok {
		return k.home.sharedNetwork(other)
	}
	if !ownNetwork(mode) {
		return k.home.connector(o.DNS, "none", k.reports.events)(ctx, mode)
	}
	ports, err := o.ports(k.image)
	if err != nil {
		return container.Network{}, err
	}
	sandbox, err := k.coming.take()
	plain := len(ports) == 0 && len(o.Networks) == 1 && o.Networks[0].Network == network.DefaultName
	switch {
	case err != nil && plain && ctx.Err() == nil:
		k.reports.events.Send(event.Event{Kind: event.Warning, Text: "the container has no network but loopback: " + err.Error()})
		return container.Network{Network: runtime.Network{Mode: "none"}, DNS: o.DNS, Missing: err}, nil
	case err != nil:
		return container.Network{}, err
	}
	k.sandbox = sandbox
	for _, e := range sandbox.Endpoints() {
		k.home.networkEvent(e.Network, e.NetworkID, "connect", k.record.ID)
	}
	c, err := k.connection()
	c.Close = k.leave(sandbox)
	if err != nil {
		return c, errors.Join(err, c.Close())
	}
	return c, nil
}

// connection is what the sandbox is connected to, for the container.
func (k *keeper) connection() (c container.Network, err error) {
	o := &k.record.Config
	c = container.Network{
		Network: runtime.Network{Mode: "default", Namespace: k.sandbox.Namespace}, Search: o.Search, Options: o.Resolver,
	}
	for _, e := range k.sandbox.Endpoints() {
		if !c.Gateway.IsValid() {
			c.Gateway = e.Gateway
		}
		if e.Address.IsValid() {
			c.Addresses = append(c.Addresses, e.Address.Addr())
		}
		if e.Address6.IsValid() {
			c.Addresses = append(c.Addresses, e.Address6.Addr())
		}
	}
	c.DNS, err = k.nameServers()
	return c, err
}

// nameServers are what the container asks for names: a server of ours where it can be reached by a name, or where this
// machine's servers cannot be reached from it.
func (k *keeper) nameServers() ([]string, error) {
	o := &k.record.Config
	named := slices.ContainsFunc(k.sandbox.Endpoints(), func(e network.Endpoint) bool { return e.Network != network.DefaultName })
	loopback := container.LoopbackServers()
	if !named && (len(o.DNS) > 0 || len(loopback) == 0) {
		return o.DNS, nil
	}
	servers := loopback
	if named {
		var err error
		if servers, err = container.NameServers(o.DNS); err != nil {
			return nil, err
		}
	}
	addr, err := k.sandbox.NameServer(servers)
	if err != nil {
		return nil, fmt.Errorf("name server: %w", err)
	}
	return []string{addr.String()}, nil
}

// disconnected tells that the container has left its networks.
func (k *keeper) disconnected() {
	for _, e := range k.sandbox.Endpoints() {
		k.home.networkEvent(e.Network, e.NetworkID, "disconnect", k.record.ID)
	}
	k.sandbox = nil
}

// sharedNetwork is the network of another container, with what that one's hosts and resolv.conf say of it.
func (h *Home) sharedNetwork(ref string) (container.Network, error) {
	var c container.Network
	err := h.running("exec", ref, func(r *containerRecord, t *runtime.Target) error {
		run, _, err := h.containers().Run(r.ID)
		if err != nil {
			return err
		}
		f, err := os.Open("/proc/" + strconv.Itoa(t.Pid) + "/ns/net")
		if err != nil {
			return os.ErrProcessDone
		}
		c = r.Config.sharedWith(run)
		c.Network, c.Close = runtime.Network{Mode: "default", Namespace: f}, f.Close
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("cannot join network of a non running container: %w", err)
	}
	return c, nil
}

// sharedWith is what others who are in the network of a container, which runs, are connected to.
func (c *containerConfig) sharedWith(run *state.Run) (n container.Network) {
	n.DNS, n.Search, n.Options = c.DNS, c.Search, c.Resolver
	named := false
	for _, a := range c.Networks {
		e, ok := run.Networks[a.Network]
		if !ok {
			continue
		}
		named = named || a.Network != network.DefaultName
		for _, text := range []string{e.Address, e.Address6} {
			if p, err := netip.ParsePrefix(text); err == nil {
				n.Addresses = append(n.Addresses, p.Addr())
			}
		}
		if g, err := netip.ParseAddr(e.Gateway); err == nil && !n.Gateway.IsValid() {
			n.Gateway = g
		}
	}
	if len(run.Networks) > 0 && (named || len(c.DNS) == 0 && len(container.LoopbackServers()) > 0) { // as nameServers has it
		n.DNS = []string{network.NameServerAddress}
	}
	return n
}

// sharedNames gives a container that is to share the network of another one that one's names, unless it has a host name. That is refused where
// it would be this machine's.
func (h *Home) sharedNames(o *ContainerOptions) error {
	if o.Hostname != "" && o.UTS == "host" { // of a new container: those that were made before may have both
		return words.Invalid("conflicting options: hostname and the UTS mode")
	}
	ref, ok := strings.CutPrefix(o.Network, inContainer)
	if !ok || o.Hostname != "" {
		return nil
	}
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	o.Hostname = cmp.Or(r.Config.Hostname, r.ID[:12])
	if o.UTS != "host" { // which has a domain name itself
		o.Domain = cmp.Or(o.Domain, r.Config.Domain)
	}
	if r.Config.Hostname == "" && r.Config.Network == "host" {
		o.Hostname, err = os.Hostname()
	}
	return err
}

// sharedHosts are the hosts that a container has been told of in whose network another one is.
func (h *Home) sharedHosts(mode string) ([]container.Host, error) {
	ref, ok := strings.CutPrefix(mode, inContainer)
	if !ok {
		return nil, nil
	}
	r, err := h.findContainer(ref)
	if err != nil {
		return nil, fmt.Errorf("cannot join network of a non running container: %w", err)
	}
	return container.ParseHosts(r.Config.AddHosts)
}

// connected notes in the run how the container is connected.
func (k *keeper) connected(run *state.Run) {
	run.Networks, run.Ports = nil, nil
	if k.sandbox == nil {
		return
	}
	run.Networks = map[string]state.Endpoint{}
	for _, e := range k.sandbox.Endpoints() {
		s := state.Endpoint{ID: e.ID, NetworkID: e.NetworkID, MAC: e.MAC.String(), Aliases: e.Aliases}
		if e.Address.IsValid() {
			s.Address = e.Address.String()
		}
		if e.Gateway.IsValid() {
			s.Gateway = e.Gateway.String()
		}
		if e.Address6.IsValid() {
			s.Address6, s.Gateway6 = e.Address6.String(), e.Gateway6.String()
		}
		run.Networks[e.Network] = s
	}
	for _, b := range k.sandbox.Bindings() {
		run.Ports = append(run.Ports, words.Port{HostIP: b.Address.String(), Host: b.Port, Port: b.Container, Protocol: b.Protocol})
	}
}
