package forge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container"
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
	Privileged bool
}

// An Exec is a process that was started in a running container. It is to be waited for. Its methods may be called concurrently.
type Exec struct{ process *runtime.Process }

// Wait waits for the end of the process and returns its exit status.
func (e *Exec) Wait() (int, error) {
	exit, err := e.process.Wait()
	return exit.Code, err
}

// Signal sends the process a signal.
func (e *Exec) Signal(sig os.Signal) error { return e.process.Signal(sig) }

// Resize sets the size of the process's terminal, in characters.
func (e *Exec) Resize(rows, cols uint16) error { return e.process.Resize(rows, cols) }

// Exec starts a process in a running container. It ends with the container, or with this process. A command that cannot be
// executed is a *CommandError. events takes warnings; it may be nil.
func (h *Home) Exec(ctx context.Context, ref string, o ExecOptions, stdio Stdio, events event.Sink) (*Exec, error) {
	r, err := h.findContainer(ref)
	if err != nil {
		return nil, err
	}
	run, status, err := h.containers().Run(r.ID)
	if err != nil {
		return nil, err
	}
	if err := words.Refusal("exec", ref, r.ID, string(status)); err != nil {
		return nil, err
	}
	p, err := h.join(ctx, r, run, o, stdio, events)
	if errors.Is(err, os.ErrProcessDone) {
		return nil, words.Refusal("exec", ref, r.ID, string(state.Exited))
	}
	if err != nil {
		return nil, err
	}
	return &Exec{p}, nil
}

// join starts a process in the container of a run.
func (h *Home) join(ctx context.Context, r *containerRecord, run *state.Run, o ExecOptions, stdio Stdio, events event.Sink) (*runtime.Process, error) {
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
	p, err := runtime.Join(ctx, t, spec, stdio)
	return p, container.Explain(err, "")
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
		Terminal: o.TTY, Security: options.Security, Limits: options.Limits,
	}
	if o.Privileged {
		s.Security.Privileged = true
	}
	return s, nil
}

// ExecDetached starts a process in a running container and leaves it to itself. It ends with the container.
func (h *Home) ExecDetached(ctx context.Context, ref string, o ExecOptions) error {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	// What is the caller's is read here: the process that holds it has another working directory.
	if o.Env, err = container.ParseEnv(ctx, o.EnvFiles, o.Env); err != nil {
		return err
	}
	o.EnvFiles = nil
	options, err := optionsFile(o)
	if err != nil {
		return err
	}
	pid, reports, err := h.startHelper([]*os.File{options}, r.ID, helperExec)
	if err = errors.Join(err, options.Close()); err != nil {
		return err
	}
	defer reports.Close()
	return follow(ctx, pid, reports, nil)
}

// optionsFile is a file in memory that says what to execute: an argument could be 128 KB long at most.
func optionsFile(o ExecOptions) (*os.File, error) {
	fd, err := unix.MemfdCreate("exec", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "exec")
	err = json.NewEncoder(f).Encode(o)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// keepExec is the whole of the process that holds a detached one.
func (h *Home) keepExec(ctx context.Context, id string, options *os.File, started func()) error {
	var o ExecOptions
	err := json.NewDecoder(options).Decode(&o)
	if err = errors.Join(err, options.Close()); err != nil {
		return err
	}
	e, err := h.Exec(ctx, id, o, Stdio{}, nil)
	if err != nil {
		return err
	}
	started()
	_, err = e.Wait()
	return err
}
