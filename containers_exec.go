package forge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
)

// ExecOptions say what to run in a container that runs already.
type ExecOptions struct {
	Args       []string
	Env        []string // K=V, over the container's; K alone is this process's variable
	EnvFiles   []string
	Workdir    string // "" is the container's
	User       string // "" is the container's
	TTY        bool
	Stdin      bool         // of one that is kept: it reads what who is attached types
	Size       TerminalSize // of the terminal of one that is kept, at the start; zero is not known
	Privileged bool
	DetachKeys string // kept for who starts it; "" is docker's

	id string // "" is given one when it starts
}

// command is the command line as events show it.
func (o *ExecOptions) command() string { return o.Args[0] + " " + strings.Join(o.Args[1:], " ") }

// An Exec is a process that was started in a running container. It is to be waited for. Its methods may be called concurrently.
type Exec struct {
	*runtime.Process
	event func(action string, attributes ...string)
}

// Wait waits for the end of the process.
func (e *Exec) Wait() (runtime.Exit, error) {
	exit, err := e.Process.Wait()
	e.event("exec_die", "exitCode", strconv.Itoa(exit.Code))
	return exit, err
}

// Exec starts a process in a running container. It ends with the container, or with this process. A command that cannot be
// executed is a *CommandError. events takes warnings; it may be nil.
func (h *Home) Exec(ctx context.Context, ref string, o ExecOptions, stdio Stdio, events event.Sink) (*Exec, error) {
	r, run, status, err := h.findRun(ref)
	if err != nil {
		return nil, err
	}
	if err := words.Refusal("exec", ref, r.ID, string(status)); err != nil {
		return nil, err
	}
	e, err := h.join(ctx, r, run, o, stdio, events)
	if errors.Is(err, os.ErrProcessDone) {
		return nil, words.Refusal("exec", ref, r.ID, string(state.Exited))
	}
	return e, err
}

// join starts a process in the container of a run.
func (h *Home) join(ctx context.Context, r *containerRecord, run *state.Run, o ExecOptions, stdio Stdio, events event.Sink) (*Exec, error) {
	img, err := h.containerImage(ctx, r)
	if err != nil {
		return nil, err
	}
	t, err := runtime.Open(run.Ref)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	spec, err := execSpec(ctx, r, o, img)
	if err != nil {
		return nil, err
	}
	root, err := t.Root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if spec.User, err = container.LookupUserIn(root, cmp.Or(o.User, r.Config.User, img.Config.Config.User), r.Config.GroupAdd); err != nil {
		return nil, err
	}
	spec.Env = container.Environment(spec.Env, spec.User.Home)
	spec.Warn = func(text string) { events.Send(event.Event{Kind: event.Warning, Text: text}) }
	e := &Exec{event: h.execEvents(r, cmp.Or(o.id, newID()))}
	if o.id == "" { // else it was told when it was created
		e.event("exec_create: " + o.command())
	}
	e.event("exec_start: " + o.command())
	if e.Process, err = runtime.Join(ctx, t, spec, stdio); err != nil {
		if errors.Is(err, syscall.EAGAIN) {
			return nil, &container.CommandError{Code: 126, Text: fmt.Sprintf("%v: container %s has as many processes as it may have (--pids-limit)", err, r.Name)}
		}
		return nil, container.Explain(err, "", slices.Concat(spec.Args, spec.Env))
	}
	return e, nil
}

// execEvents tells what happens to a process in a container.
func (h *Home) execEvents(r *containerRecord, id string) func(action string, attributes ...string) {
	return func(action string, attributes ...string) {
		h.containerEvent(r, action, append(attributes, "execID", id)...)
	}
}

// execSpec is what the process gets of what the container has, and of the options.
func execSpec(ctx context.Context, r *containerRecord, o ExecOptions, img *image.Image) (s runtime.Spec, err error) {
	if len(o.Args) == 0 {
		return s, errors.New("exec needs a command")
	}
	env, err := container.ParseEnv(ctx, o.EnvFiles, o.Env)
	if err != nil {
		return s, err
	}
	if err := container.CheckDir(o.Workdir); err != nil {
		return s, err
	}
	c := &r.Config.ContainerOptions
	options, err := c.parse()
	if err != nil {
		return s, err
	}
	if err := c.complete(&options, img, r.ID); err != nil {
		return s, err
	}
	base := options.Process.Env
	if o.TTY && !c.TTY {
		base = append([]string{"TERM=xterm"}, base...)
	}
	s = runtime.Spec{
		Args: o.Args, Env: slices.Concat(base, env), Dir: cmp.Or(o.Workdir, options.Process.Dir, "/"),
		Terminal: o.TTY, Rows: o.Size.Rows, Cols: o.Size.Cols, Security: options.Security, Limits: options.Limits,
	}
	if o.Privileged {
		s.Security.Privileged = true
	}
	return s, nil
}

// ExecDetached starts a process in a running container and leaves it to itself. It ends with the container.
func (h *Home) ExecDetached(ctx context.Context, ref string, o ExecOptions) error {
	return h.startExec(ctx, ref, o, nil, nil)
}

// ExecAttached starts a process in a running container, in a process that keeps it, and stays attached to it until it ends; it
// returns the exit status. If in fails with ErrDetached, the process goes on and ExecAttached returns that error; if this process
// ends otherwise, so does that one.
func (h *Home) ExecAttached(ctx context.Context, ref string, o ExecOptions, streams Streams, events event.Sink) (int, error) {
	return attachFirst(ctx, streams, func(first []*os.File) error { return h.startExec(ctx, ref, o, first, events) })
}

// startExec starts the process that keeps one in a container, and waits until that has started.
func (h *Home) startExec(ctx context.Context, ref string, o ExecOptions, first []*os.File, events event.Sink) error {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	// What is the caller's is read here: the process that keeps it has another working directory.
	if o.id == "" {
		if o.Env, err = container.ParseEnv(ctx, o.EnvFiles, o.Env); err != nil {
			return err
		}
		o.EnvFiles = nil
	}
	options, err := jsonFile("exec", keptExec{o, o.id})
	if err != nil {
		return err
	}
	args := []string{helperExec}
	if len(first) > 0 {
		args = append(args, helperAttached+strconv.Itoa(len(first)))
	}
	pid, reports, err := h.startHelper(append([]*os.File{options}, first...), r.ID, args...)
	if err = errors.Join(err, options.Close()); err != nil {
		return err
	}
	defer reports.Close()
	return h.follow(ctx, pid, reports, events)
}

// A keptExec is what the process is told that keeps one in a container.
type keptExec struct {
	Options ExecOptions
	ID      string // "" has no record
}

// keepExec is the whole of the process that keeps one in a container. first are those who are attached from the beginning.
func (h *Home) keepExec(ctx context.Context, id string, options *os.File, first []*net.UnixConn, reports keepReports) (err error) {
	var kept keptExec
	err = json.NewDecoder(options).Decode(&kept)
	if err = errors.Join(err, options.Close()); err != nil {
		return err
	}
	o := kept.Options
	o.id = kept.ID
	ctx, end := context.WithCancel(ctx)
	defer end()
	c := monitor.Config{
		Start: func(ctx context.Context, io runtime.Stdio, _ *state.Run, size TerminalSize) (monitor.Process, error) {
			o.Size = size
			return h.Exec(ctx, id, o, io, reports.events)
		},
		Record: func(*state.Run) error { return nil },
		Event:  func(string, ...string) {},
		Done:   func() {},
		Left: func(detached bool) {
			if !detached {
				end()
			}
		},
		Stdin: o.Stdin, StdinOnce: true, Terminal: o.TTY, Size: o.Size,
	}
	var listener *net.UnixListener
	if o.id != "" {
		var close func() error
		if listener, close, err = h.keepRecord(ctx, id, o.id, &c); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, close()) }()
	}
	m := monitor.New(c, &state.Run{})
	for _, conn := range first {
		m.First(conn)
	}
	_, err = m.Keep(ctx, listener, reports.started)
	m.Drain()
	return err
}
