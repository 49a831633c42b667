package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/runtime"
)

type runCmd struct {
	Rm          bool   `help:"Remove the container when it ends."`
	Interactive bool   `short:"i" help:"Pass standard input on."`
	TTY         bool   `name:"tty" short:"t" help:"Give the container a terminal."`
	Detach      bool   `short:"d" hidden:""`
	Name        string `hidden:""`

	Env        []string `short:"e" sep:"none" help:"Variable; without a value, the caller's." placeholder:"K[=V]"`
	EnvFile    []string `help:"File of variables, one a line." placeholder:"FILE"`
	Entrypoint *string  `help:"Command instead of the image's entry point; empty for none." placeholder:"COMMAND"`
	Workdir    string   `short:"w" help:"Working directory." placeholder:"DIR"`
	User       string   `short:"u" help:"User or ID, with an optional group." placeholder:"USER[:GROUP]"`
	Hostname   string   `short:"h" help:"Host name." placeholder:"NAME"`
	Volume     []string `short:"v" sep:"none" help:"Directory or file of this machine to put into the container." placeholder:"SRC:DST[:ro]"`
	Mount      []string `sep:"none" help:"As --volume and --tmpfs, in fields." placeholder:"type=bind|tmpfs,FIELD=VALUE"`
	Tmpfs      []string `sep:"none" help:"Directory in memory." placeholder:"DST[:OPTIONS]"`
	Device     []string `sep:"none" help:"Device of this machine, or the name of a CDI device." placeholder:"SRC[:DST]"`
	Network    string   `help:"default, none or host." aliases:"net" default:"default" placeholder:"MODE"`
	AddHost    []string `sep:"none" help:"Line for /etc/hosts." placeholder:"HOST:IP"`
	DNS        []string `name:"dns" sep:"none" help:"Name server." placeholder:"IP"`

	Privileged  bool     `help:"Take all defences away."`
	CapAdd      []string `help:"Add a capability, or ALL." placeholder:"CAP"`
	CapDrop     []string `help:"Drop a capability, or ALL." placeholder:"CAP"`
	SecurityOpt []string `sep:"none" help:"seccomp=unconfined|FILE or no-new-privileges." placeholder:"OPTION"`
	ReadOnly    bool     `help:"Make the root file system read-only."`
	Memory      string   `short:"m" help:"Memory." placeholder:"BYTES"`
	CPUs        string   `name:"cpus" help:"Processors." placeholder:"N"`
	PidsLimit   int64    `help:"Processes." placeholder:"N"`
	ShmSize     string   `help:"Size of /dev/shm." placeholder:"BYTES"`
	Ulimit      []string `sep:"none" help:"Limit of the process." placeholder:"NAME=SOFT[:HARD]"`

	Insecure bool   `help:"Allow http, and TLS without verification."`
	Platform string `help:"Platform of the image." placeholder:"OS/ARCH"`
	Pull     string `help:"always, missing or never." enum:"always,missing,never" default:"missing" placeholder:"WHEN"`

	Command []string `arg:"" optional:"" passthrough:"" help:"Image, and command instead of the image's." placeholder:"IMAGE [COMMAND]"`
}

// Help is shown below the usage.
func (c *runCmd) Help() string {
	return "Exit status: the command's; 125 if forge failed, 126 if the command could not be executed, 127 if it was not found, 128+n if signal n ended it."
}

func (c *runCmd) Run(s *session) error {
	if len(c.Command) > 0 && c.Command[0] == "--" { // which ends the flags
		c.Command = c.Command[1:]
	}
	switch {
	case len(c.Command) == 0:
		return &usageError{usageStatus, errors.New("run needs an image: forge run --rm [flags] IMAGE [COMMAND]")}
	case strings.HasPrefix(c.Command[0], "-"): // kong takes it for the first word of the command
		return &usageError{usageStatus, fmt.Errorf("unknown flag %s; see forge run --help", c.Command[0])}
	}
	o, err := c.options(s)
	if err != nil {
		return &usageError{usageStatus, err}
	}
	show := ui.New("auto", s.err)
	defer show.Close()
	o.RemoteOptions = forge.RemoteOptions{Insecure: c.Insecure, Events: show.Event}
	err = s.withHome(func(h *forge.Home) error {
		restore, err := c.wire(s, &o)
		if err != nil {
			return err
		}
		defer restore()
		running, err := h.Start(s.ctx, o)
		if err != nil {
			return err
		}
		s.signals.forward(running)
		if c.TTY {
			followSize(running)
		}
		exit, err := running.Wait()
		if err == nil && exit.Code != 0 {
			return status(exit.Code)
		}
		return err
	})
	return runStatus(err)
}

// runStatus gives docker's exit statuses to what kept a command from running.
func runStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[status](err); ok {
		return err
	}
	code := usageStatus
	if e, ok := errors.AsType[*container.CommandError](err); ok {
		code = e.Code
	}
	return &usageError{code, err}
}

// options turns flags into what forge.Run wants.
func (c *runCmd) options(s *session) (o forge.RunOptions, err error) {
	switch {
	case c.Detach || c.Name != "":
		return o, errors.New("containers that stay (-d, --name) are not there yet: run with --rm")
	case !c.Rm:
		return o, errors.New("containers that stay are not there yet: add --rm")
	}
	o = forge.RunOptions{
		Image: c.Command[0], Pull: forge.PullPolicy(c.Pull),
		ProcessOptions: forge.ProcessOptions{
			Args: c.Command[1:], Entrypoint: container.ParseEntrypoint(c.Entrypoint), Dir: c.Workdir, User: c.User, Terminal: c.TTY,
		},
		NetworkOptions: forge.NetworkOptions{Hostname: c.Hostname, DNS: c.DNS},
		Security: runtime.Security{
			Privileged: c.Privileged, CapAdd: c.CapAdd, CapDrop: c.CapDrop, ReadOnlyRoot: c.ReadOnly,
		},
	}
	err = errors.Join(container.CheckHostname(c.Hostname), container.CheckDir(c.Workdir), container.CheckDNS(c.DNS),
		container.ParseSecurityOpts(c.SecurityOpt, &o.Security))
	if err != nil {
		return o, err
	}
	if c.Network == "bridge" { // docker's name for the default
		c.Network = "default"
	}
	if o.Network, err = container.ParseNetwork(c.Network); err != nil {
		return o, err
	}
	if o.Hosts, err = container.ParseHosts(c.AddHost); err != nil {
		return o, err
	}
	if o.Platform, err = forge.ParsePlatform(c.Platform); err != nil {
		return o, err
	}
	if o.Env, err = container.ParseEnv(s.ctx, c.EnvFile, c.Env); err != nil {
		return o, err
	}
	if o.Mounts, err = container.ParseMounts(c.Volume, c.Mount, c.Tmpfs); err != nil {
		return o, err
	}
	nodes, devices, err := container.ParseDevices(c.Device)
	if err != nil {
		return o, err
	}
	o.Mounts, o.Devices = append(o.Mounts, nodes...), devices
	o.Limits, err = container.ParseLimits(container.LimitFlags{
		Memory: c.Memory, CPUs: c.CPUs, ShmSize: c.ShmSize, Pids: c.PidsLimit, Ulimits: c.Ulimit,
	})
	return o, err
}

// wire connects the caller's standard streams to the process to be. What it returns puts
// the terminal back.
func (c *runCmd) wire(s *session, o *forge.RunOptions) (restore func(), err error) {
	restore = func() {}
	o.Stdio.Out, o.Stdio.Err = os.Stdout, os.Stderr
	if c.Interactive {
		o.Stdio.In = s.in
	}
	onTerminal := term.IsTerminal(int(s.in.Fd()))
	if c.TTY && c.Interactive && !onTerminal {
		return restore, errors.New("the input device is not a terminal: leave out -t")
	}
	if c.TTY && c.Interactive {
		old, err := term.MakeRaw(int(s.in.Fd()))
		if err != nil {
			return restore, fmt.Errorf("terminal: %w", err)
		}
		restore = func() { _ = term.Restore(int(s.in.Fd()), old) }
	}
	return restore, nil
}

// followSize gives the process's terminal the size of the caller's, now and whenever it changes.
func followSize(p *forge.Running) {
	resize := func() {
		if cols, rows, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
			_ = p.Resize(uint16(rows), uint16(cols))
		}
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	resize()
	go func() { // ends with the program, as the process it serves does
		for range changed {
			resize()
		}
	}()
}
