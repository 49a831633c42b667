package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

// each does something to each container that is named, prints the name as it was given when it is done, and goes on after an
// error, as docker does.
func each(s *session, refs []string, do func(h *forge.Home, ref string) error) error {
	return eachSays(s, refs, func(h *forge.Home, ref string) (any, error) { return ref, do(h, ref) })
}

// eachSays is each, and prints what do returns, unless that is nil.
func eachSays(s *session, refs []string, do func(h *forge.Home, ref string) (any, error)) error {
	return s.withHome(func(h *forge.Home) error {
		failed := false
		for _, ref := range refs {
			said, err := do(h, ref)
			if err != nil {
				if s.ctx.Err() != nil {
					return err
				}
				failed = true
				_, _ = fmt.Fprintln(s.err, "forge: "+ui.Lines(err.Error()))
				continue
			}
			if said == nil {
				continue
			}
			if _, err := fmt.Fprintln(s.out, said); err != nil {
				return err
			}
		}
		if failed {
			return status(1)
		}
		return nil
	})
}

type stopCmd struct {
	Signal     string   `short:"s" help:"Signal that asks the container to end." placeholder:"SIGNAL"`
	Time       *int     `short:"t" name:"timeout" aliases:"time" help:"Seconds until the container is killed; -1 is never." placeholder:"SECONDS"`
	Containers []string `arg:"" help:"Containers." placeholder:"CONTAINER"`
}

func (c *stopCmd) Run(s *session) error {
	show := ui.New("plain", s.err)
	defer show.Close()
	o := forge.StopOptions{Signal: c.Signal, Seconds: c.Time, Events: show.Event}
	return each(s, c.Containers, func(h *forge.Home, ref string) error { return h.StopContainer(s.ctx, ref, o) })
}

type restartCmd stopCmd

func (c *restartCmd) Run(s *session) error {
	show := ui.New("plain", s.err)
	defer show.Close()
	o := forge.StopOptions{Signal: c.Signal, Seconds: c.Time, Events: show.Event}
	return each(s, c.Containers, func(h *forge.Home, ref string) error { return h.RestartContainer(s.ctx, ref, o) })
}

type killCmd struct {
	Signal     string   `short:"s" help:"Signal to send." placeholder:"SIGNAL" default:"KILL"`
	Containers []string `arg:"" help:"Containers." placeholder:"CONTAINER"`
}

func (c *killCmd) Run(s *session) error {
	show := ui.New("plain", s.err)
	defer show.Close()
	return each(s, c.Containers, func(h *forge.Home, ref string) error { return h.KillContainer(s.ctx, ref, c.Signal, show.Event) })
}

// containerArgs are the arguments of a command without flags.
type containerArgs struct {
	Containers []string `arg:"" help:"Containers." placeholder:"CONTAINER"`
}

type pauseCmd containerArgs

func (c *pauseCmd) Run(s *session) error {
	return each(s, c.Containers, func(h *forge.Home, ref string) error { return h.PauseContainer(s.ctx, ref) })
}

type unpauseCmd containerArgs

func (c *unpauseCmd) Run(s *session) error {
	return each(s, c.Containers, func(h *forge.Home, ref string) error { return h.UnpauseContainer(s.ctx, ref) })
}

type waitCmd containerArgs

func (c *waitCmd) Run(s *session) error {
	return eachSays(s, c.Containers, func(h *forge.Home, ref string) (any, error) { return h.WaitContainer(s.ctx, ref) })
}

type rmCmd struct {
	Force      bool     `short:"f" help:"Kill containers that run; no error for what is not there."`
	Volumes    bool     `short:"v" help:"Remove anonymous volumes, too."`
	Containers []string `arg:"" help:"Containers." placeholder:"CONTAINER"`
}

func (c *rmCmd) Run(s *session) error {
	show := ui.New("plain", s.err)
	defer show.Close()
	o := forge.RemoveContainerOptions{Force: c.Force, Volumes: c.Volumes, Events: show.Event}
	return eachSays(s, c.Containers, func(h *forge.Home, ref string) (any, error) {
		err := h.RemoveContainer(s.ctx, ref, o)
		if _, missing := errors.AsType[*forge.NoContainerError](err); missing && c.Force {
			_, _ = fmt.Fprintln(s.err, "forge: "+ui.Lines(err.Error()))
			return nil, nil
		}
		return ref, err
	})
}

type renameCmd struct {
	Container string `arg:"" help:"Container." placeholder:"CONTAINER"`
	Name      string `arg:"" help:"New name." placeholder:"NAME"`
}

func (c *renameCmd) Run(s *session) error {
	show := ui.New("plain", s.err)
	defer show.Close()
	return s.withHome(func(h *forge.Home) error { return h.RenameContainer(s.ctx, c.Container, c.Name, show.Event) })
}

type startCmd struct {
	Attach      bool     `short:"a" help:"Show what the container writes, and exit with its status."`
	Interactive bool     `short:"i" help:"Pass standard input on."`
	DetachKeys  string   `help:"Keys that end the attachment." placeholder:"KEYS"`
	Containers  []string `arg:"" help:"Containers." placeholder:"CONTAINER"`
}

func (c *startCmd) Run(s *session) error {
	if !c.Attach && !c.Interactive {
		show := ui.New("auto", s.err)
		defer show.Close()
		return each(s, c.Containers, func(h *forge.Home, ref string) error { return h.StartContainer(s.ctx, ref, show.Event, nil) })
	}
	if len(c.Containers) != 1 {
		return errors.New("you cannot start and attach multiple containers at once")
	}
	return s.withHome(func(h *forge.Home) error {
		return c.attached(s, h)
	})
}

func (c *startCmd) attached(s *session, h *forge.Home) error {
	ref := c.Containers[0]
	info, err := h.Container(ref)
	if err != nil {
		return err
	}
	t := tty{session: s, home: h, ref: info.ID, terminal: info.TTY, keys: c.DetachKeys, proxy: !info.TTY}
	err = t.attach(c.Interactive && info.Interactive, func(streams forge.Streams) (int, error) {
		return h.RunAttached(s.ctx, ref, streams, nil)
	})
	if errors.Is(err, forge.ErrDetached) {
		return nil
	}
	return err
}

type attachCmd struct {
	NoStdin    bool   `help:"Do not pass standard input on."`
	SigProxy   bool   `help:"Pass signals on." default:"true" negatable:""`
	DetachKeys string `help:"Keys that end the attachment." placeholder:"KEYS"`
	Container  string `arg:"" help:"Container." placeholder:"CONTAINER"`
}

func (c *attachCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		info, err := h.Container(c.Container)
		if err != nil {
			return err
		}
		t := tty{session: s, home: h, ref: info.ID, terminal: info.TTY, keys: c.DetachKeys, proxy: c.SigProxy && !info.TTY}
		err = t.attach(!c.NoStdin && info.Interactive, func(streams forge.Streams) (int, error) {
			return h.AttachContainer(s.ctx, c.Container, streams)
		})
		return escaped(err)
	})
}

// escaped gives docker's text to the end of an attachment by keys.
func escaped(err error) error {
	if errors.Is(err, forge.ErrDetached) {
		return errors.New("read escape sequence")
	}
	return err
}

// A tty is the caller's terminal, or what is in its place, while a container is attached to it.
type tty struct {
	session  *session
	home     *forge.Home
	ref      string
	terminal bool     // the container has one
	keys     string   // that end the attachment; "" is docker's
	proxy    bool     // signals are the container's
	only     []string // output that is attached, in letters of any case; empty is all

	over chan struct{} // closed at the end of attach
}

// attach runs do with the caller's streams. It returns the container's exit status as an error.
func (t *tty) attach(stdin bool, do func(forge.Streams) (int, error)) error {
	streams := forge.Streams{Out: os.Stdout, Err: os.Stderr} // which the container may get as they are
	if t.terminal {
		streams.Err = nil
	}
	if stdin {
		streams.In = t.session.in
		if t.terminal {
			restore, err := rawTerminal(t.session.in)
			if err != nil {
				return err
			}
			defer restore()
			if streams.In, err = forge.DetachReader(t.session.in, t.keys); err != nil {
				return err
			}
		}
	}
	t.restrict(&streams)
	if t.terminal {
		streams.Size = terminalSize()
		sizes, stop := followSize()
		defer stop()
		streams.Sizes = sizes
	}
	t.over = make(chan struct{})
	defer close(t.over)
	if t.proxy && t.ref != "" {
		t.forward()
	}
	code, err := do(streams)
	if err == nil && code != 0 {
		return status(code)
	}
	return err
}

// forward has signals passed on to the container. One that comes while that is started waits until it runs.
func (t *tty) forward() {
	ctx, h, ref, over := t.session.ctx, t.home, t.ref, t.over
	refused := func(sig syscall.Signal) bool {
		_, refused := errors.AsType[forge.RefusedError](h.SignalContainer(ctx, ref, sig))
		return refused
	}
	t.session.signals.forward(func(sig syscall.Signal) {
		if !refused(sig) {
			return
		}
		go func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if !refused(sig) {
					return
				}
			}
		}()
	})
}

// restrict leaves only the output that was asked for. Standard input is passed on wherever that was asked for, as docker does.
func (t *tty) restrict(streams *forge.Streams) {
	wanted := func(name string) bool {
		return len(t.only) == 0 || slices.ContainsFunc(t.only, func(only string) bool { return strings.EqualFold(only, name) })
	}
	if !wanted("stdout") {
		streams.Out = nil
	}
	if !wanted("stderr") {
		streams.Err = nil
	}
}

// checkStreams refuses what is no stream that can be attached to.
func checkStreams(names []string) error {
	for _, name := range names {
		if !slices.Contains([]string{"stdin", "stdout", "stderr"}, strings.ToLower(name)) {
			return fmt.Errorf("invalid argument %q for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR", name)
		}
	}
	return nil
}
