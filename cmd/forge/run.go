package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

type runCmd struct {
	Rm          bool   `help:"Remove the container when it ends."`
	Interactive bool   `short:"i" help:"Pass standard input on."`
	Detach      bool   `short:"d" hidden:""`
	Name        string `hidden:""`
	processFlags
	surroundingFlags
	securityFlags
	limitFlags

	Insecure bool   `help:"Allow http, and TLS without verification."`
	Platform string `help:"Platform of the image." placeholder:"OS/ARCH"`
	Pull     string `help:"always, missing or never." enum:"always,missing,never" default:"missing" placeholder:"WHEN"`

	Command []string `arg:"" optional:"" passthrough:"" help:"Image, and command instead of the image's." placeholder:"IMAGE [COMMAND]"`
}

type processFlags struct {
	Env        []string `short:"e" sep:"none" help:"Variable; without a value, the caller's." placeholder:"K[=V]"`
	EnvFile    []string `help:"File of variables, one a line." placeholder:"FILE"`
	Entrypoint *string  `help:"Command instead of the image's entry point; empty for none." placeholder:"COMMAND"`
	Workdir    string   `short:"w" help:"Working directory." placeholder:"DIR"`
	User       string   `short:"u" help:"User or ID, with an optional group." placeholder:"USER[:GROUP]"`
	TTY        bool     `name:"tty" short:"t" help:"Give the container a terminal."`
}

// surroundingFlags are forge.SurroundingOptions as flags, and so on for those below.
type surroundingFlags struct {
	Network  string   `help:"default, none or host." aliases:"net" default:"default" placeholder:"MODE"`
	Hostname string   `short:"h" help:"Host name." placeholder:"NAME"`
	AddHosts []string `name:"add-host" sep:"none" help:"Line for /etc/hosts." placeholder:"HOST:IP"`
	DNS      []string `name:"dns" sep:"none" help:"Name server." placeholder:"IP"`
	Volumes  []string `name:"volume" short:"v" sep:"none" help:"Directory or file of this machine to put into the container." placeholder:"SRC:DST[:ro]"`
	Mounts   []string `name:"mount" sep:"none" help:"As --volume and --tmpfs, in fields." placeholder:"type=bind|tmpfs,FIELD=VALUE"`
	Tmpfs    []string `sep:"none" help:"Directory in memory." placeholder:"DST[:OPTIONS]"`
	Devices  []string `name:"device" sep:"none" help:"Device of this machine, or the name of a CDI device." placeholder:"SRC[:DST]"`
}

type securityFlags struct {
	Privileged   bool     `help:"Take all defences away."`
	CapAdd       []string `help:"Add a capability, or ALL." placeholder:"CAP"`
	CapDrop      []string `help:"Drop a capability, or ALL." placeholder:"CAP"`
	SecurityOpts []string `name:"security-opt" sep:"none" help:"seccomp=unconfined|FILE or no-new-privileges." placeholder:"OPTION"`
	ReadOnly     bool     `help:"Make the root file system read-only."`
}

type limitFlags struct {
	Memory  string   `short:"m" help:"Memory." placeholder:"BYTES"`
	CPUs    string   `name:"cpus" help:"Processors." placeholder:"N"`
	ShmSize string   `help:"Size of /dev/shm." placeholder:"BYTES"`
	Pids    int64    `name:"pids-limit" help:"Processes." placeholder:"N"`
	Ulimits []string `name:"ulimit" sep:"none" help:"Limit of the process." placeholder:"NAME=SOFT[:HARD]"`
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
	o, err := c.options(s.ctx)
	if err != nil {
		return &usageError{usageStatus, err}
	}
	show := ui.New("auto", s.err)
	defer show.Close()
	err = s.withHome(func(h *forge.Home) error {
		restore, err := c.terminal(s)
		if err != nil {
			return err
		}
		defer restore()
		stdio := forge.Stdio{Out: os.Stdout, Err: os.Stderr}
		if c.Interactive {
			stdio.In = s.in
		}
		running, err := h.Start(s.ctx, o, stdio, show.Event)
		if err != nil {
			return err
		}
		s.signals.forward(running)
		if c.TTY {
			followSize(running)
		}
		code, err := running.Wait()
		if err == nil && code != 0 {
			return status(code)
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
	if e, ok := errors.AsType[*forge.CommandError](err); ok {
		code = e.Code
	}
	return &usageError{code, err}
}

// options turns flags into what Home.Start wants.
func (c *runCmd) options(ctx context.Context) (o forge.RunOptions, err error) {
	switch {
	case c.Detach || c.Name != "":
		return o, errors.New("containers that stay (-d, --name) are not there yet: run with --rm")
	case !c.Rm:
		return o, errors.New("containers that stay are not there yet: add --rm")
	}
	o = forge.RunOptions{
		Image: c.Command[0], Platform: c.Platform, Pull: forge.PullPolicy(c.Pull), Insecure: c.Insecure,
		ProcessOptions: forge.ProcessOptions{
			Args: c.Command[1:], Env: c.Env, EnvFiles: c.EnvFile, Workdir: c.Workdir, User: c.User, TTY: c.TTY,
		},
		SurroundingOptions: forge.SurroundingOptions(c.surroundingFlags),
		SecurityOptions:    forge.SecurityOptions(c.securityFlags),
		LimitOptions:       forge.LimitOptions(c.limitFlags),
	}
	if c.Entrypoint != nil {
		o.Entrypoint = []string{*c.Entrypoint}
	}
	return o, o.Check(ctx)
}

// terminal makes the caller's terminal, if the command gets it, pass everything on. What it returns puts it back.
func (c *runCmd) terminal(s *session) (restore func(), err error) {
	if !c.TTY || !c.Interactive {
		return func() {}, nil
	}
	fd := int(s.in.Fd())
	if !term.IsTerminal(fd) {
		return nil, errors.New("the input device is not a terminal: leave out -t")
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return func() { _ = term.Restore(fd, old) }, nil
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
