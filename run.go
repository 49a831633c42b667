package forge

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// RunOptions say what to run and in what surroundings. The zero value of all but Image runs what the image says, with the
// defences of docs/security.md.
type RunOptions struct {
	Image    string
	Platform *ocispec.Platform
	Pull     PullPolicy
	ProcessOptions
	NetworkOptions
	Mounts   []container.Mount
	Devices  []container.Device
	Security runtime.Security
	Limits   runtime.Limits
	RemoteOptions
}

// ProcessOptions say what the process of a container is.
type ProcessOptions struct {
	Args       []string  // instead of the image's Cmd
	Entrypoint *[]string // instead of the image's, whose Cmd goes with it
	Env        []string  // K=V, over the image's; K alone takes the image's variable away
	Dir        string    // absolute
	User       string
	Terminal   bool
	Stdio      runtime.Stdio
}

// NetworkOptions say how a container reaches others and what it is called.
type NetworkOptions struct {
	Network  string // "default", "none" or "host"
	Hostname string // "" is the container's ID, or this machine's name if the network is the host's
	Hosts    []container.Host
	DNS      []string
}

// Run runs a command in a container that is gone when it ends, and returns how it ended; see [Home.Start].
func (h *Home) Run(ctx context.Context, o RunOptions) (runtime.Exit, error) {
	r, err := h.Start(ctx, o)
	if err != nil {
		return runtime.Exit{}, err
	}
	return r.Wait()
}

// A Running is a command that runs in a container. It is to be waited for.
type Running struct {
	*runtime.Process
	open closers
}

// Wait waits for the end of the command, gives back all that the container was made of, and returns how the command ended.
func (r *Running) Wait() (runtime.Exit, error) {
	exit, err := r.Process.Wait()
	return exit, errors.Join(err, r.open.close())
}

// closers give back what was opened, the last first.
type closers []func() error

func (c *closers) add(closed func() error) { *c = append(*c, closed) }

func (c closers) close() error {
	var errs []error
	for _, closed := range slices.Backward(c) {
		errs = append(errs, closed())
	}
	return errors.Join(errs...)
}

// Start runs a command in a container that is gone when it ends. An error is one of forge, a *runtime.SetupError or, if the
// command could not be executed, a *container.CommandError. The event Started comes before the command runs, and none after it:
// from there on the terminal is the command's.
func (h *Home) Start(ctx context.Context, o RunOptions) (_ *Running, err error) {
	o.Events = event.Stamped(newID()[:12], o.Events)
	img, err := h.imageToRun(ctx, o)
	if err != nil {
		return nil, err
	}
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	var open closers
	defer func() {
		if err != nil {
			err = errors.Join(err, open.close())
		}
	}()
	draft, err := store.Draft(ctx, img.Layers(), snapshot.DraftOptions{})
	if err != nil {
		return nil, err
	}
	open.add(draft.Close)
	view, err := store.View(ctx, img.Layers())
	if err != nil {
		return nil, err
	}
	open.add(view.Close)

	options, err := o.container(img)
	if err != nil {
		return nil, err
	}
	options.Root, options.Files = draft, view
	factory := container.Factory{Snapshots: store, Staging: h.staging, Events: o.Events, Connect: h.connector(o.DNS, o.Events)}
	open.add(factory.Close)
	c, err := factory.Prepare(ctx, options)
	if err != nil {
		return nil, err
	}
	open.add(c.Close)
	o.Events.Send(event.Event{Kind: event.Started})
	process, err := c.Start(ctx, o.Stdio)
	if err != nil {
		return nil, err
	}
	return &Running{process, open}, nil
}

// container is what the options and the image say of the container.
func (o *RunOptions) container(img *image.Image) (container.Options, error) {
	config := &img.Config.Config
	c := container.Options{
		Process: container.Process{
			Dir: cmp.Or(o.Dir, config.WorkingDir), User: cmp.Or(o.User, config.User), Terminal: o.Terminal,
			Platform: platforms.Format(img.Config.Platform),
		},
		Hostname: o.Hostname, Etc: container.EtcOfRun, Hosts: o.Hosts, Network: cmp.Or(o.Network, "default"),
		Mounts: o.Mounts, Devices: o.Devices, Limits: o.Limits, Security: o.Security,
	}
	var err error
	switch {
	case c.Hostname != "":
	case c.Network == "host":
		if c.Hostname, err = os.Hostname(); err != nil {
			return c, err
		}
	default:
		c.Hostname = newID()[:12]
	}
	c.Process.Env = []string{"PATH=" + runtime.DefaultPath, "HOSTNAME=" + c.Hostname}
	if o.Terminal {
		c.Process.Env = append(c.Process.Env, "TERM=xterm")
	}
	proxies, err := proxyEnv(o.Env)
	if err != nil {
		return c, err
	}
	c.Process.Env = slices.Concat(c.Process.Env, config.Env, proxies, o.Env)
	c.Process.Args, err = o.command(config.Entrypoint, config.Cmd)
	return c, err
}

// command is the whole command line, as docker puts it together.
func (o *RunOptions) command(entry, cmd []string) ([]string, error) {
	args := o.Args
	if o.Entrypoint != nil {
		entry = *o.Entrypoint
	} else if len(args) == 0 {
		args = cmd
	}
	all := append(slices.Clone(entry), args...)
	if len(all) == 0 {
		return nil, fmt.Errorf("image %s names no command: say which to run", o.Image)
	}
	return all, nil
}

// newID is a new container's: 64 hex digits.
func newID() string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
