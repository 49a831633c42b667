package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

type runCmd struct {
	Detach     bool   `short:"d" help:"Run in the background, and print the container's ID."`
	DetachKeys string `help:"Keys that end the attachment." placeholder:"KEYS"`
	SigProxy   bool   `help:"Pass signals on." default:"true" negatable:""`
	createFlags
}

type createCmd createFlags

// createFlags say what container to make.
type createFlags struct {
	forge.LifeOptions
	Attach  []string `short:"a" sep:"none" help:"Which of stdin, stdout and stderr to attach to." placeholder:"STREAM"`
	CIDFile string   `name:"cidfile" help:"Write the container's ID to a file." placeholder:"FILE"`
	Quiet   bool     `short:"q" help:"Do not show how the image is pulled."`
	absentFlags

	forge.ProcessOptions
	Entrypoint *string `help:"Command instead of the image's entry point; empty for none." placeholder:"COMMAND"`
	forge.SurroundingOptions
	GPUs []string `name:"gpus" sep:"none" help:"GPUs, by their CDI spec: all, how many, or device=ID." placeholder:"REQUEST"`
	forge.SecurityOptions
	forge.NamespaceOptions
	forge.LimitOptions
	forge.BlockOptions

	Insecure bool   `help:"Allow http, and TLS without verification."`
	Platform string `env:"DOCKER_DEFAULT_PLATFORM" help:"Platform of the image." placeholder:"OS/ARCH"`
	Pull     string `help:"always, missing, never, or lazy: read layers in eStargz where they are, with --rm." enum:"always,missing,never,lazy" default:"missing" placeholder:"WHEN"`

	Command []string `arg:"" optional:"" passthrough:"partial" help:"Image, and command instead of the image's." placeholder:"IMAGE [COMMAND]"`
}

// absentFlags are those of docker that ask for what is so anyway, or for what forge cannot give.
type absentFlags struct {
	Runtime          string   `hidden:""`
	CgroupParent     string   `hidden:""`
	MemorySwappiness *int64   `hidden:""`
	StorageOpt       []string `hidden:"" sep:"none"`
	trustFlags
}

// check refuses what the container would not have.
func (f *absentFlags) check() error {
	switch {
	case f.Runtime != "" && f.Runtime != "forge":
		return fmt.Errorf("unknown or invalid runtime name: %s: forge runs containers itself", f.Runtime)
	case f.CgroupParent != "":
		return fmt.Errorf("--cgroup-parent %s: forge makes the cgroups of containers itself, at the top or below its own: limit the container by its own flags, such as --memory and --cpus", f.CgroupParent)
	case f.MemorySwappiness != nil && *f.MemorySwappiness != -1:
		return fmt.Errorf("--memory-swappiness %d: cgroups of version 2 have no such setting: limit swap with --memory-swap", *f.MemorySwappiness)
	case len(f.StorageOpt) > 0:
		return fmt.Errorf("--storage-opt %s: what containers write has no limit of its own: keep the state directory (FORGE_ROOT) on a file system of its own, or use --read-only with --tmpfs DIR:size=BYTES",
			f.StorageOpt[0])
	}
	return f.trustFlags.check()
}

// Help is shown below the usage.
func (c *runCmd) Help() string {
	return "Exit status: the command's; 125 if forge failed, 126 if the command could not be executed, 127 if it was not found, 128+n if signal n ended it."
}

func (c *runCmd) Run(s *session) error {
	return runStatus(s.withHome(func(h *forge.Home) error { return c.run(s, h) }))
}

// run runs a container.
func (c *runCmd) run(s *session, h *forge.Home) error {
	o, err := c.options(s.ctx, "run")
	if err != nil {
		return wrongFlags(err)
	}
	switch {
	case c.Detach && len(c.Attach) > 0:
		return errors.New("conflicting options: cannot specify both --attach and --detach")
	case !c.Detach && c.TTY && c.Interactive:
		if err := needTerminal(s.in); err != nil {
			return err
		}
	}
	o.StdinOnce, o.Detached = c.Interactive && !c.Detach, c.Detach
	show := c.progress(s)
	defer show.Close()
	if !c.Detach && c.AutoRemove && !(c.TTY && c.Interactive) {
		return c.here(s, h, o, show)
	}
	id, err := h.CreateContainer(s.ctx, o, show.Event)
	if err != nil {
		return err
	}
	if err := c.writeID(s.ctx, id); err != nil {
		return err
	}
	if !c.Detach {
		return c.attached(s, h, id, show)
	}
	if err := h.StartContainer(s.ctx, id, show.Event, nil); err != nil {
		return c.discard(s, h, id, err)
	}
	_, err = fmt.Fprintln(s.out, id)
	return err
}

// discard removes a container that could not be started and is not meant to stay.
func (c *runCmd) discard(s *session, h *forge.Home, id string, err error) error {
	if !c.AutoRemove {
		return err
	}
	return errors.Join(err, h.RemoveContainer(context.WithoutCancel(s.ctx), id, forge.RemoveContainerOptions{Force: true, Volumes: true}))
}

// here runs the container in this process: it is gone when this ends.
func (c *runCmd) here(s *session, h *forge.Home, o forge.ContainerOptions, show ui.Display) error {
	t := tty{session: s, home: h, terminal: c.TTY, proxy: c.SigProxy, only: c.Attach}
	return t.attach(c.Interactive, func(streams forge.Streams) (int, error) {
		return h.RunHere(s.ctx, o, streams, show.Event, func(id string) error {
			t.ref = id
			if t.proxy {
				t.forward()
			}
			return c.writeID(s.ctx, id)
		})
	})
}

// attached starts a container in a process of its own and stays with it until it ends.
func (c *runCmd) attached(s *session, h *forge.Home, id string, show ui.Display) error {
	t := tty{session: s, home: h, ref: id, terminal: c.TTY, keys: c.DetachKeys, proxy: c.SigProxy, only: c.Attach}
	err := t.attach(c.Interactive, func(streams forge.Streams) (int, error) {
		return h.RunAttached(s.ctx, id, streams, show.Event)
	})
	switch {
	case errors.Is(err, forge.ErrDetached):
		return nil
	case err != nil && s.ctx.Err() == nil:
		if _, ended := errors.AsType[status](err); !ended {
			return c.discard(s, h, id, err)
		}
	}
	return err
}

// Run makes a container and prints its ID.
func (cmd *createCmd) Run(s *session) error {
	c := (*createFlags)(cmd)
	o, err := c.options(s.ctx, "create")
	if err != nil {
		return wrongFlags(err)
	}
	show := c.progress(s)
	defer show.Close()
	return runStatus(s.withHome(func(h *forge.Home) error {
		id, err := h.CreateContainer(s.ctx, o, show.Event)
		if err != nil {
			return err
		}
		if err := c.writeID(s.ctx, id); err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, id)
		return err
	}))
}

// wrongFlags gives docker's exit status to a mistake in the flags of a container.
func wrongFlags(err error) error {
	if _, ok := errors.AsType[*usageError](err); ok {
		return err
	}
	return &usageError{status: usageStatus, err: err}
}

// runStatus gives docker's exit statuses to what kept a command from running.
func runStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[status](err); ok {
		return err
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	code := usageStatus
	if e, ok := errors.AsType[*forge.CommandError](err); ok {
		code = e.Code
	}
	return &failure{code, err}
}

// progress shows how the image is pulled.
func (c *createFlags) progress(s *session) ui.Display {
	if c.Quiet {
		return ui.New("quiet", s.err)
	}
	return ui.New("auto", s.err)
}

// writeID writes the container's ID to the file that is to have it.
func (c *createFlags) writeID(ctx context.Context, id string) error {
	if c.CIDFile == "" {
		return nil
	}
	return forge.WriteCIDFile(ctx, c.CIDFile, id)
}

// passed are the words that a command takes as they are, without what ends its flags.
func passed(words []string) []string {
	if len(words) > 0 && words[0] == "--" {
		return words[1:]
	}
	return words
}

// options turns flags into what is wanted of a container.
func (c *createFlags) options(ctx context.Context, verb string) (o forge.ContainerOptions, err error) {
	if c.Command = passed(c.Command); len(c.Command) == 0 {
		return o, badUsage(fmt.Errorf("%s needs an image: forge %s [flags] IMAGE [COMMAND]", verb, verb))
	}
	o.LifeOptions, o.RunOptions = c.LifeOptions, forge.RunOptions{
		Image: c.Command[0], Platform: c.Platform, Pull: forge.PullPolicy(c.Pull), Insecure: c.Insecure, ProcessOptions: c.ProcessOptions,
		SurroundingOptions: c.SurroundingOptions, SecurityOptions: c.SecurityOptions, NamespaceOptions: c.NamespaceOptions, LimitOptions: c.LimitOptions,
		BlockOptions: c.BlockOptions,
	}
	o.Args, o.StdinOnce = c.Command[1:], c.Interactive
	if c.Entrypoint != nil {
		o.Entrypoint = []string{*c.Entrypoint}
	}
	if o.DeviceRequests, err = forge.ParseGPUs(c.GPUs); err != nil {
		return o, err
	}
	if err := errors.Join(c.absentFlags.check(), checkStreams(c.Attach)); err != nil {
		return o, err
	}
	for _, stream := range c.Attach {
		o.Attach = append(o.Attach, strings.ToLower(stream))
	}
	if c.CIDFile != "" {
		if err := forge.CheckCIDFile(c.CIDFile); err != nil {
			return o, err
		}
	}
	return o, o.Check(ctx)
}
