package forge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
)

// machineNetwork is where the bridge that all containers of root share is kept account of.
const machineNetwork = "/run/forge/network"

// networkDir is where networks are kept account of.
func (h *Home) networkDir() string {
	if rootless, _ := runtime.Rootless(); rootless {
		return filepath.Join(h.Dir, "network")
	}
	return machineNetwork
}

// Networks are those that containers can be connected to.
func (h *Home) Networks() *network.Store {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.allNetworks == nil { // one for all, since it knows what this process has in use
		h.allNetworks = network.Open(filepath.Join(h.Dir, "networks"), h.networkDir())
	}
	return h.allNetworks
}

// connector makes the network that a mode asks for: "none", "host", or the default of this machine, which is a way out if
// it can be made and else another mode, "none" or "host". events takes a warning that says why, once for each Home.
func (h *Home) connector(dns []string, otherwise string, events event.Sink) func(context.Context, string) (container.Network, error) {
	return func(ctx context.Context, mode string) (container.Network, error) {
		if mode == "none" || mode == "host" {
			return container.Network{Network: runtime.Network{Mode: mode}, DNS: dns}, nil
		}
		n, err := h.takeNetwork(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return container.Network{}, context.Cause(ctx)
			}
			h.unconnected.Do(func() {
				text := "containers have no network but loopback here: "
				if otherwise == "host" {
					text = "RUN shares the network of the container that forge is in: "
				}
				events.Send(event.Event{Kind: event.Warning, Text: text + err.Error()})
			})
			n := container.Network{Network: runtime.Network{Mode: otherwise}, DNS: dns}
			if otherwise == "none" {
				n.Missing = err
			}
			return n, nil
		}
		c := container.Network{
			Network: runtime.Network{Mode: "default", Namespace: n.Namespace}, DNS: dns,
			Close: func() error { h.giveNetwork(n); return nil },
		}
		for _, e := range n.Endpoints() {
			c.Addresses, c.Gateway = append(c.Addresses, e.Address.Addr()), e.Gateway
		}
		if servers := container.LoopbackServers(); len(dns) == 0 && len(servers) > 0 {
			addr, err := n.NameServer(servers)
			if err != nil {
				return c, errors.Join(fmt.Errorf("name server: %w", err), c.Close())
			}
			c.DNS = []string{addr.String()}
		}
		return c, nil
	}
}

// takeNetwork makes a network, or takes one that a container of this process has left: making one takes longer than most
// commands, and a command, which may not administer it, leaves it as it was.
func (h *Home) takeNetwork(ctx context.Context) (*network.Sandbox, error) {
	h.mu.Lock()
	if last := len(h.networks) - 1; last >= 0 {
		n := h.networks[last]
		h.networks = h.networks[:last]
		h.mu.Unlock()
		return n, nil
	}
	h.mu.Unlock()
	return h.Networks().Prepare(ctx, network.Options{Networks: []network.Attachment{{Network: network.DefaultName}}})
}

// giveNetwork leaves a network to the next container, or to Close.
func (h *Home) giveNetwork(n *network.Sandbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.networks = append(h.networks, n)
}
