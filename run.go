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

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// Stdio is what a process reads and writes; nil is /dev/null.
type Stdio = runtime.Stdio

// A CommandError means that the command of a container could not be executed. Its code is docker's: 126, or 127 if there is no
// such command.
type CommandError = container.CommandError

// A Running is a command that runs in a container. It is to be waited for. Its methods may be called concurrently.
type Running struct {
	process *runtime.Process
	open    closers.Stack
}

// Wait waits for the end of the command, gives back all that the container was made of, and returns the command's exit status,
// which is 128+n if signal n ended it.
func (r *Running) Wait() (status int, err error) {
	exit, err := r.process.Wait()
	return exit.Code, errors.Join(err, r.open.Close())
}

// Signal sends the command a signal.
func (r *Running) Signal(sig os.Signal) error { return r.process.Signal(sig) }

// Resize sets the size of the command's terminal, in characters.
func (r *Running) Resize(rows, cols uint16) error { return r.process.Resize(rows, cols) }

// Start runs a command in a container that is gone when it ends. An error is one of forge, a *runtime.SetupError or, if the
// command could not be executed, a *CommandError. The event Started comes before the command runs, and none after it: from there
// on the terminal is the command's. events may be nil.
func (h *Home) Start(ctx context.Context, o RunOptions, stdio Stdio, events event.Sink) (_ *Running, err error) {
	id := newID()
	events = event.Stamped(id[:12], events)
	options, err := o.parse()
	if err != nil {
		return nil, err
	}
	img, err := h.imageToRun(ctx, o, events)
	if err != nil {
		return nil, err
	}
	if err := o.complete(&options, img, id); err != nil {
		return nil, err
	}
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	var open closers.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, open.Close())
		}
	}()
	draft, err := store.Draft(ctx, img.Layers(), snapshot.DraftOptions{})
	if err != nil {
		return nil, err
	}
	open.Push(draft.Close)
	view, err := store.View(ctx, img.Layers())
	if err != nil {
		return nil, err
	}
	open.Push(view.Close)

	options.Root, options.Files = draft, view
	factory := container.Factory{Snapshots: store, Staging: h.staging, Events: events, Connect: h.connector(o.DNS, events)}
	open.Push(factory.Close)
	c, err := factory.Prepare(ctx, options)
	if err != nil {
		return nil, err
	}
	open.Push(c.Close)
	events.Send(event.Event{Kind: event.Started})
	process, err := c.Start(ctx, stdio)
	if err != nil {
		return nil, err
	}
	return &Running{process, open}, nil
}

// complete adds what the image says, and what follows from the container's ID.
func (o *RunOptions) complete(c *container.Options, img *image.Image, id string) (err error) {
	config := &img.Config.Config
	p := &c.Process
	p.Dir, p.User = cmp.Or(p.Dir, config.WorkingDir), cmp.Or(p.User, config.User)
	p.Platform = platforms.Format(img.Config.Platform)
	switch {
	case c.Hostname != "":
	case c.Network == "host":
		if c.Hostname, err = os.Hostname(); err != nil {
			return err
		}
	default:
		c.Hostname = id[:12]
	}
	env := []string{"PATH=" + runtime.DefaultPath, "HOSTNAME=" + c.Hostname}
	if p.Terminal {
		env = append(env, "TERM=xterm")
	}
	p.Env = slices.Concat(env, config.Env, o.Env)
	p.Args, err = o.command(config.Entrypoint, config.Cmd)
	return err
}

// command is the whole command line, as docker puts it together.
func (o *RunOptions) command(entry, cmd []string) ([]string, error) {
	args := o.Args
	switch {
	case len(o.Entrypoint) == 1 && o.Entrypoint[0] == "":
		entry = nil
	case len(o.Entrypoint) > 0:
		entry = o.Entrypoint
	case len(args) == 0:
		args = cmd
	}
	all := slices.Concat(entry, args)
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
