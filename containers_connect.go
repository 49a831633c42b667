package forge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/runtime/network"
)

// Requests of others to the monitor of a container, about its networks.
const (
	callConnect    = "connect"
	callDisconnect = "disconnect"
	callRename     = "rename"
)

// call does what somebody asks the monitor for while the container runs.
func (k *keeper) call(ctx context.Context, run *state.Run, name string, arg []byte) (err error) {
	var a attachment
	if err := json.Unmarshal(arg, &a); err != nil {
		return err
	}
	if name == callRename {
		r := *k.record
		r.Name = a.Network
		k.becomes(&r)
	}
	switch {
	case k.sandbox == nil && name == callRename:
		return nil
	case k.sandbox == nil:
		return errors.New("the container has no network of its own")
	}
	switch name {
	case callConnect:
		r, invalid := a.request(k.record.Config.Hostname)
		if invalid != nil {
			return invalid
		}
		if _, err = k.sandbox.Connect(ctx, r); err != nil {
			return err
		}
		if err := k.reconnected(); err != nil {
			return errors.Join(err, k.sandbox.Disconnect(ctx, a.Network))
		}
	case callDisconnect:
		if slices.ContainsFunc(k.sandbox.Endpoints(), func(e network.Endpoint) bool { return e.Network == a.Network }) {
			err = k.sandbox.Disconnect(ctx, a.Network)
		}
		if err == nil { // also if it was disconnected before, and who asked then was not told
			err = k.reconnected()
		}
	case callRename:
		err = k.sandbox.Rename(ctx, a.Network)
	default:
		return fmt.Errorf("unknown request %s", name)
	}
	k.connected(run)
	return err
}

// reconnected tells the container of what its sandbox is connected to now.
func (k *keeper) reconnected() error {
	c, err := k.connection()
	if err != nil {
		return err
	}
	return k.container.SetNetwork(c)
}

// callMonitor has the monitor of a container do something, if the container runs.
func (h *Home) callMonitor(ctx context.Context, r *containerRecord, name string, a attachment) error {
	arg, err := json.Marshal(a)
	if err != nil {
		return err
	}
	err = h.monitorOf(r).Call(ctx, name, arg)
	if errors.Is(err, monitor.ErrGone) {
		return nil
	}
	return err
}

// findEnds finds a network and a container.
func (h *Home) findEnds(nameOrID, ref string) (n *network.Network, r *containerRecord, err error) {
	if n, err = h.Networks().Find(nameOrID); err == nil {
		r, err = h.findContainer(ref)
	}
	return n, r, err
}

// ConnectContainer connects a container to one more network, now if it runs, and whenever it does.
func (h *Home) ConnectContainer(ctx context.Context, nameOrID, ref string, o EndpointOptions) error {
	n, r, err := h.findEnds(nameOrID, ref)
	if err != nil {
		return err
	}
	a := attachment{n.Name, o}
	switch _, err := a.request(""); {
	case err != nil:
		return err
	case n.Name == network.DefaultName && len(o.Links) > 0:
		return words.Invalid("links in the default network are made when a container is created: give it --link then, or use a network that was created")
	case !ownNetwork(cmp.Or(r.Config.Network, "default")):
		return notConnectable(r.Config.Network)
	}
	// It is written down first: then it is connected at the next start even if this process is killed, and of several who
	// connect it one does.
	is := func(a attachment) bool { return a.Network == n.Name }
	err = h.containers().Change(ctx, r.ID, func(r *containerRecord) error {
		if slices.ContainsFunc(r.Config.Networks, is) {
			return words.Forbidden("endpoint with name %s already exists in network %s", r.Name, n.Name)
		}
		r.Config.Networks = append(r.Config.Networks, a)
		return nil
	})
	if err != nil {
		return err
	}
	if err := failpoint.At("connect.recorded"); err != nil {
		return err
	}
	// The monitor does not stop in the middle, and who does not wait for it does not know what to note.
	ctx = context.WithoutCancel(ctx)
	if err := h.callMonitor(ctx, r, callConnect, a); err != nil {
		return errors.Join(err, h.containers().Change(ctx, r.ID, func(r *containerRecord) error {
			r.Config.Networks = slices.DeleteFunc(r.Config.Networks, is)
			return nil
		}))
	}
	h.networkEvent(n.Name, n.ID, "connect", r.ID)
	return nil
}

// notConnectable is why a container without a network of its own cannot be connected to one, in docker's words.
func notConnectable(mode string) error {
	switch mode {
	case "none":
		return errors.New("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	case "host":
		return errors.New("container cannot be connected to host network: it would have to be created with it, and with no other")
	}
	return errors.New("container sharing network namespace with another container or host cannot be connected to any other network")
}

// DisconnectContainer takes a container off a network.
func (h *Home) DisconnectContainer(ctx context.Context, nameOrID, ref string) error {
	n, r, err := h.findEnds(nameOrID, ref)
	if err != nil {
		return err
	}
	is := func(a attachment) bool { return a.Network == n.Name }
	run, status, err := h.containers().Run(r.ID)
	if err != nil {
		return err
	}
	_, now := run.Networks[n.Name]
	if !slices.ContainsFunc(r.Config.Networks, is) && !(now && status.Alive()) {
		return fmt.Errorf("container %s is not connected to network %s", r.Name, n.Name)
	}
	ctx = context.WithoutCancel(ctx) // as for a connection
	if err := h.callMonitor(ctx, r, callDisconnect, attachment{Network: n.Name}); err != nil {
		return err
	}
	h.networkEvent(n.Name, n.ID, "disconnect", r.ID)
	return h.containers().Change(ctx, r.ID, func(r *containerRecord) error {
		r.Config.Networks = slices.DeleteFunc(r.Config.Networks, is)
		return nil
	})
}
