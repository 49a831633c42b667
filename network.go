package forge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

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

// connector makes the network that a mode asks for: "none", "host", or the default of this machine, which is a way out if
// it can be made and else loopback only. events takes a warning that says why, once for each Home.
func (h *Home) connector(dns []string, events event.Sink) func(context.Context, string) (container.Network, error) {
	return func(ctx context.Context, mode string) (container.Network, error) {
		if mode == "none" || mode == "host" {
			return container.Network{Network: runtime.Network{Mode: mode}, DNS: dns}, nil
		}
		n, err := h.networks.take(ctx, h.networkDir())
		if err != nil {
			if ctx.Err() != nil {
				return container.Network{}, context.Cause(ctx)
			}
			h.unconnected.Do(func() {
				events.Send(event.Event{Kind: event.Warning, Text: "containers have no network but loopback here: " + err.Error()})
			})
			return container.Network{Network: runtime.Network{Mode: "none"}, DNS: dns, Missing: err}, nil
		}
		c := container.Network{
			Network: runtime.Network{Mode: "default", Namespace: n.Namespace}, DNS: dns,
			Address: n.Address.Addr(), Gateway: n.Gateway,
			Close: func() error { h.networks.give(n); return nil },
		}
		if servers := container.LoopbackServers(); len(dns) == 0 && len(servers) > 0 {
			addr, err := n.Relay(servers)
			if err != nil {
				return c, errors.Join(fmt.Errorf("name server: %w", err), c.Close())
			}
			c.DNS = []string{addr.String()}
		}
		return c, nil
	}
}

// A networkPool keeps networks for the next container of this process: making one takes longer than most commands, and
// a command, which may not administer it, leaves it as it was. Safe for concurrent use.
type networkPool struct {
	mu   sync.Mutex // guards free
	free []*network.Sandbox
}

func (p *networkPool) take(ctx context.Context, dir string) (*network.Sandbox, error) {
	p.mu.Lock()
	if last := len(p.free) - 1; last >= 0 {
		n := p.free[last]
		p.free = p.free[:last]
		p.mu.Unlock()
		return n, nil
	}
	p.mu.Unlock()
	return network.Prepare(ctx, dir)
}

func (p *networkPool) give(n *network.Sandbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, n)
}

func (p *networkPool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, n := range p.free {
		errs = append(errs, n.Close())
	}
	p.free = nil
	return errors.Join(errs...)
}
