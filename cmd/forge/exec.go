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
	EnvFile     []string `sep:"none" help:"File of variables, one a line." placeholder:"FILE"`
	Interactive bool     `short:"i" help:"Pass standard input on."`
	Privileged  bool     `help:"Take all defences away."`
	TTY         bool     `name:"tty" short:"t" help:"Give the command a terminal."`
	User        string   `short:"u" help:"User or ID, with an optional group." placeholder:"USER[:GROUP]"`
	Workdir     string   `short:"w" help:"Working directory." placeholder:"DIR"`

	Command []string `arg:"" passthrough:"partial" help:"Container, and command." placeholder:"CONTAINER COMMAND"`
}

func (c *execCmd) Run(s *session) error {
	if c.Command = passed(c.Command); len(c.Command) < 2 {
		return badUsage(errors.New("exec needs a container and a command: forge exec [flags] CONTAINER COMMAND"))
	}
	o := forge.ExecOptions{
		Args: c.Command[1:], Env: c.Env, EnvFiles: c.EnvFile, Workdir: c.Workdir, User: c.User, TTY: c.TTY, Privileged: c.Privileged,
	}
	return execStatus(s.withHome(func(h *forge.Home) error {
		switch {
		case c.Detach:
			return h.ExecDetached(s.ctx, c.Command[0], o)
		case c.TTY:
			return c.terminal(s, h, o)
		}
		return c.attached(s, h, o)
	}))
}

// attached runs the command with the caller's streams, in this process.
func (c *execCmd) attached(s *session, h *forge.Home, o forge.ExecOptions) error {
	show := ui.New("auto", s.err)
	defer show.Close()
	stdio := forge.Stdio{Out: os.Stdout, Err: os.Stderr}
	if c.Interactive {
		stdio.In = s.in
	}
	p, err := h.Exec(s.ctx, c.Command[0], o, stdio, show.Event)
	if err != nil {
		return err
	}
	s.signals.forward(func(sig syscall.Signal) { _ = p.Signal(sig) })
	exit, err := p.Wait()
	if err == nil && exit.Code != 0 {
		return status(exit.Code)
	}
	return err
}

// terminal runs the command with the caller's terminal, from which it can be detached.
func (c *execCmd) terminal(s *session, h *forge.Home, o forge.ExecOptions) error {
	show := ui.New("auto", s.err)
	defer show.Close()
	o.Stdin = c.Interactive
	t := tty{session: s, home: h, terminal: true, keys: c.DetachKeys}
	err := t.attach(c.Interactive, func(streams forge.Streams) (int, error) {
		return h.ExecAttached(s.ctx, c.Command[0], o, streams, show.Event)
	})
	return escaped(err)
}

// execStatus gives docker's exit statuses to what kept a command from running.
func execStatus(err error) error {
	if e, ok := errors.AsType[*forge.CommandError](err); ok {
		return &failure{e.Code, err}
	}
	return err
}
