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
	Image      string
	Args       []string  // instead of the image's Cmd
	Entrypoint *[]string // instead of the image's, whose Cmd goes with it
	Platform   *ocispec.Platform
	Pull       PullPolicy

	Env      []string // K=V, over the image's; K alone takes the image's variable away
	Dir      string   // absolute
	User     string
	Hostname string // "" is the container's ID, or this machine's name if the network is the host's
	Terminal bool
	Mounts   []container.Mount
	Network  string // "default", "none" or "host"
	Hosts    []container.Host
	DNS      []string
	Security runtime.Security
	Limits   runtime.Limits

	Stdio   runtime.Stdio
	Started func(*runtime.Process) // is told of the process once it runs
	RemoteOptions
}

// Run runs a command in a container that is gone when it ends, and returns how it ended. An error is one of forge, a
// *runtime.SetupError or, if the command could not be executed, a *container.CommandError.
func (h *Home) Run(ctx context.Context, o RunOptions) (exit runtime.Exit, err error) {
	sink := o.Events
	remote, events := o.queued()
	defer events.Close()
	o.RemoteOptions = remote
	img, err := h.imageToRun(ctx, o)
	if err != nil {
		return exit, err
	}
	store, err := h.Snapshots()
	if err != nil {
		return exit, err
	}
	draft, err := store.Draft(ctx, img.Layers(), snapshot.DraftOptions{})
	if err != nil {
		return exit, err
	}
	defer func() { err = errors.Join(err, draft.Close()) }()
	view, err := store.View(ctx, img.Layers())
	if err != nil {
		return exit, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()

	options, err := o.container(img)
	if err != nil {
		return exit, err
	}
	options.Root, options.Files = draft, view
	factory := container.Factory{Snapshots: store, Staging: h.staging, Events: sink, Connect: h.connector(o.DNS, o.Events)}
	defer func() { err = errors.Join(err, factory.Close()) }()
	c, err := factory.Prepare(ctx, options)
	if err != nil {
		return exit, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	o.Events.Send(event.Event{Kind: event.Started})
	events.Close() // from here on the terminal is the command's, but for what is said before it runs
	process, err := c.Start(ctx, o.Stdio)
	if err != nil {
		return exit, err
	}
	if o.Started != nil {
		o.Started(process)
	}
	return process.Wait()
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
		Mounts: o.Mounts, Limits: o.Limits, Security: o.Security,
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
