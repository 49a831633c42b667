package forge

import (
	"context"
	"encoding/json"
	"os"
	"sync"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
)

// What takes the kernel long, and does not depend on the rest, is begun before it is needed: a network is made on one processor
// while the container's files are made on another.

// Warm prepares this process for a command while the caller still reads its flags: it may be called in a goroutine of its own, and
// nothing waits for it. Package json learns types by reflection, which takes longer than to read or write them.
func Warm(command string) {
	switch command {
	case "run":
		_, _ = json.Marshal(&containerRecord{})
		_, _ = json.Marshal(&state.Run{})
	case "build":
		_, _ = image.ParseDocument([]byte("{}"), "")
		_, _ = json.Marshal(&image.Config{})
		_, _ = json.Marshal(&cache.Entry{})
	}
}

// A comingNetwork is the network of a container that is about to be started.
type comingNetwork struct {
	done    chan struct{} // closed when sandbox and err are set
	sandbox *network.Sandbox
	err     error
	taken   bool
}

// beginNetwork begins to make the network of a container. It is nil if the container has none of its own. space is as in
// network.Options. The caller calls take or drop.
func (h *Home) beginNetwork(ctx context.Context, r *containerRecord, img *image.Image, space func() (*os.File, error)) *comingNetwork {
	if !ownNetwork(r.Config.Network) {
		return nil
	}
	return comeNetwork(func() (*network.Sandbox, error) { return h.sandboxOf(ctx, r, img, space) })
}

// comeNetwork begins to make a network.
func comeNetwork(prepare func() (*network.Sandbox, error)) *comingNetwork {
	n := &comingNetwork{done: make(chan struct{})}
	go func() {
		defer close(n.done)
		n.sandbox, n.err = prepare()
	}()
	return n
}

// spareNetwork begins to make a network of the default one, without ports. adopt gives it to a container.
func spareNetwork(ctx context.Context, networks *network.Store, space func() (*os.File, error)) *comingNetwork {
	return comeNetwork(func() (*network.Sandbox, error) {
		return networks.Prepare(ctx, network.Options{Namespace: space, Networks: []network.Attachment{{Network: network.DefaultName}}})
	})
}

// adopt begins to give a network that is nobody's to a container. It is the result's from now on.
func (n *comingNetwork) adopt(ctx context.Context, r *containerRecord, otherwise func() (*network.Sandbox, error)) *comingNetwork {
	return comeNetwork(func() (*network.Sandbox, error) {
		if sandbox, err := n.take(); err == nil {
			if sandbox.Adopt(ctx, r.ID, r.Name) == nil {
				return sandbox, nil
			}
			_ = sandbox.Close() // it is tried anew, which says what is wrong
		}
		return otherwise()
	})
}

// networkAhead begins to make the network of a container that may never be started, if nobody minds: what it takes of others is one address of
// the default network. It is nil if there is none.
func (h *Home) networkAhead(ctx context.Context, r *containerRecord, img *image.Image, base *foundations) *comingNetwork {
	plain := plainNetwork(&r.Config) && !Rootless()
	spare := base.network
	base.network = nil
	switch {
	case spare == nil && plain:
		return h.beginNetwork(ctx, r, img, base.space)
	case spare == nil:
		return nil
	case plain:
		return spare.adopt(ctx, r, func() (*network.Sandbox, error) { return h.sandboxOf(ctx, r, img, nil) })
	}
	h.later(spare.drop)
	base.space = beginNamespace(r.Config.Network) // the other is the spare network's
	return nil
}

// plainNetwork reports whether a container is in the default network and no other, at no address of its own, and has no ports of this machine.
func plainNetwork(c *containerConfig) bool {
	if len(c.Networks) != 1 || len(c.Publish) > 0 || c.PublishAll {
		return false
	}
	a := c.Networks[0]
	return a.Network == network.DefaultName && len(a.NetworkAliases) == 0 && a.IP == "" && a.IP6 == "" && a.MACAddress == "" && len(a.DriverOpts) == 0
}

// sandboxOf makes the network of a container.
func (h *Home) sandboxOf(ctx context.Context, r *containerRecord, img *image.Image, space func() (*os.File, error)) (*network.Sandbox, error) {
	options := network.Options{Container: r.ID, Name: r.Name, Namespace: space}
	for _, a := range r.Config.Networks {
		request, err := a.request(r.Config.Hostname)
		if err != nil {
			return nil, err
		}
		options.Networks = append(options.Networks, request)
	}
	var err error
	if options.Ports, err = r.Config.ports(img); err != nil {
		return nil, err
	}
	return h.Networks().Prepare(ctx, options)
}

// take waits for the network, which is the caller's from now on.
func (n *comingNetwork) take() (*network.Sandbox, error) {
	<-n.done
	n.taken = true
	return n.sandbox, n.err
}

// drop gives back the network if nobody has taken it.
func (n *comingNetwork) drop() error {
	if n == nil || n.taken {
		return nil
	}
	if sandbox, err := n.take(); err == nil {
		return sandbox.Close()
	}
	return nil
}

// mountAhead mounts the layers of an image for the container that will be made of it.
func (h *Home) mountAhead(ctx context.Context, img *image.Image) {
	if store, err := h.Snapshots(); err == nil {
		_ = store.Ahead(ctx, img.Layers()) // the container's own try says what is wrong
	}
}

// beginNamespace begins to make the network namespace of a container that will be created, if it will have one of its own; else
// it is nil. Every call of the function returns the same file, which the caller closes in the end.
func beginNamespace(mode string) func() (*os.File, error) {
	if !ownNetwork(mode) || Rootless() {
		return nil
	}
	return sync.OnceValues(runtime.BeginNetworkNamespace())
}

// closeNamespace closes what beginNamespace has begun. A container that had it has closed it already.
func closeNamespace(space func() (*os.File, error)) {
	if space == nil {
		return
	}
	if f, err := space(); err == nil {
		_ = f.Close()
	}
}
