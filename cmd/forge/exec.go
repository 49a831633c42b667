package main

import (
	"errors"
	"os"
	"syscall"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

type execCmd struct {
	Detach      bool     `short:"d" help:"Run in the background."`
	DetachKeys  string   `help:"Keys that end the attachment." placeholder:"KEYS"`
	Env         []string `short:"e" sep:"none" help:"Variable; without a value, the caller's." placeholder:"K[=V]"`
	EnvFile     []string `help:"File of variables, one a line." placeholder:"FILE"`
	Interactive bool     `short:"i" help:"Pass standard input on."`
	Privileged  bool     `help:"Take all defences away."`
	TTY         bool     `name:"tty" short:"t" help:"Give the command a terminal."`
	User        string   `short:"u" help:"User or ID, with an optional group." placeholder:"USER[:GROUP]"`
	Workdir     string   `short:"w" help:"Working directory." placeholder:"DIR"`

	Command []string `arg:"" passthrough:"" help:"Container, and command." placeholder:"CONTAINER COMMAND"`
}

func (c *execCmd) Run(s *session) error {
	if len(c.Command) < 2 {
		return badUsage(errors.New("exec needs a container and a command: forge exec [flags] CONTAINER COMMAND"))
	}
	o := forge.ExecOptions{
		Args: c.Command[1:], Env: c.Env, EnvFiles: c.EnvFile, Workdir: c.Workdir, User: c.User, TTY: c.TTY, Privileged: c.Privileged,
	}
	return execStatus(s.withHome(func(h *forge.Home) error {
		if c.Detach {
			return h.ExecDetached(s.ctx, c.Command[0], o)
		}
		return c.attached(s, h, o)
	}))
}

// attached runs the command with the caller's streams.
func (c *execCmd) attached(s *session, h *forge.Home, o forge.ExecOptions) error {
	show := ui.New("auto", s.err)
	defer show.Close()
	stdio := forge.Stdio{Out: os.Stdout, Err: os.Stderr}
	if c.Interactive {
		stdio.In = s.in
	}
	if c.TTY && c.Interactive {
		restore, err := rawTerminal(s.in)
		if err != nil {
			return err
		}
		defer restore()
	}
	p, err := h.Exec(s.ctx, c.Command[0], o, stdio, show.Event)
	if err != nil {
		return err
	}
	s.signals.forward(func(sig syscall.Signal) { _ = p.Signal(sig) })
	if c.TTY {
		defer followSize(p.Resize)()
	}
	code, err := p.Wait()
	if err == nil && code != 0 {
		return status(code)
	}
	return err
}

// execStatus gives docker's exit statuses to what kept a command from running.
func execStatus(err error) error {
	if e, ok := errors.AsType[*forge.CommandError](err); ok {
		return &failure{e.Code, err}
	}
	return err
}
