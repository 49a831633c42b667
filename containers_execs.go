package forge

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/inspect"
	"github.com/forge-build/forge/snapshot"
)

// A process in a container that was created before it is started has a record, as a container has, in the container's directory. So
// any process of forge can start it, ask for it and set the size of its terminal, and it is gone with the container.

// execTime is how long what is known of a process is kept after its end. Those who start one ask for its exit status at once.
const execTime = 5 * time.Minute

// unstartedTime is how long one is kept that nobody starts.
const unstartedTime = 24 * time.Hour

// A NoExecError says that no process in a container has an ID.
type NoExecError struct{ ID string }

// Error is docker's text.
func (e *NoExecError) Error() string { return "No such exec instance: " + e.ID }

// execs are the processes in a container that have records.
func (h *Home) execs(containerID string) *state.Store[ExecOptions] {
	return state.Open[ExecOptions](filepath.Join(h.containers().Dir(containerID), "execs"))
}

// CreateExec writes down what is to be run in a running container and returns the ID that it is started by.
func (h *Home) CreateExec(ctx context.Context, ref string, o ExecOptions) (id string, err error) {
	if len(o.Args) == 0 {
		return "", words.Invalid("No exec command specified")
	}
	r, _, status, err := h.findRun(ref)
	if err != nil {
		return "", err
	}
	if err := words.Refusal("exec", ref, r.ID, string(status)); err != nil {
		return "", err
	}
	if err := container.CheckDir(o.Workdir); err != nil {
		return "", err
	}
	h.sweepExecs(ctx, r.ID)
	e := &state.Record[ExecOptions]{ID: state.NewID(), Created: time.Now().UTC(), Config: o}
	e.Name = e.ID
	if err := h.execs(r.ID).Create(ctx, e, func() string { return e.ID }); err != nil {
		return "", err
	}
	h.execEvents(r, e.ID)("exec_create: " + o.command())
	return e.ID, nil
}

// sweepExecs removes what is known of processes that ended a while ago, or were never started.
func (h *Home) sweepExecs(ctx context.Context, containerID string) {
	store := h.execs(containerID)
	ids, _ := store.IDs() // what cannot be read is swept another time
	for _, id := range ids {
		run, status, err := store.Run(id)
		if err != nil || status.Alive() {
			continue
		}
		since, keep := run.Finished, execTime
		if r, err := store.Record(id); err == nil && status == state.Created {
			since, keep = r.Created, unstartedTime
		}
		if time.Since(since) > keep {
			_ = store.Remove(ctx, id, snapshot.RemoveTree)
		}
	}
}

// findExec finds the container that a process belongs to.
func (h *Home) findExec(id string) (containerID string, err error) {
	if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return "", &NoExecError{id}
	}
	ids, err := h.containers().IDs()
	if err != nil {
		return "", err
	}
	for _, c := range ids {
		if _, err := os.Lstat(h.execs(c).Dir(id)); err == nil {
			return c, nil
		}
	}
	return "", &NoExecError{id}
}

// StartExec starts what CreateExec has written down, with those who are attached from the beginning. The process goes on if they leave; it
// ends with the container. An error of the command is a *CommandError. events may be nil.
func (h *Home) StartExec(ctx context.Context, id string, size TerminalSize, events event.Sink, first ...*Attachment) (err error) {
	containerID, err := h.findExec(id)
	if err != nil {
		return err
	}
	store := h.execs(containerID)
	lock, err := store.Lock(ctx, id)
	if err != nil {
		return &NoExecError{id}
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	r, err := store.Record(id)
	if err != nil {
		return &NoExecError{id}
	}
	run, status, err := store.Run(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &NoExecError{id}
	case err != nil:
		return err
	case status.Alive():
		return words.Refused("Error: Exec command %s is already running", id)
	case status != state.Created || run.Error != "":
		return words.Refused("Error: Exec command %s has already run", id)
	}
	o := r.Config
	o.id, o.Size = id, cmp.Or(size, o.Size)
	theirs, err := beginAll(first)
	if err == nil {
		err = h.startExec(ctx, containerID, o, theirs, events)
	}
	return errors.Join(err, closeFiles(theirs))
}

// keepRecord has a monitor of a process in a container write down how it goes, and listen. What it returns ends that.
func (h *Home) keepRecord(ctx context.Context, containerID, id string, c *monitor.Config) (l *net.UnixListener, close func() error, err error) {
	store := h.execs(containerID)
	alive, err := store.Monitor(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if l, err = monitor.Listen(store.Dir(id)); err != nil {
		return nil, nil, errors.Join(err, alive.Close())
	}
	c.Record = func(run *state.Run) error {
		err := store.WriteRun(id, run)
		if errors.Is(err, fs.ErrNotExist) { // the container is gone
			return nil
		}
		return err
	}
	c.Left = nil
	return l, alive.Close, nil
}

// ResizeExec sets the size of the terminal of a process in a container.
func (h *Home) ResizeExec(ctx context.Context, id string, size TerminalSize) error {
	containerID, err := h.findExec(id)
	if err != nil {
		return err
	}
	err = monitor.Client{Dir: h.execs(containerID).Dir(id)}.Resize(ctx, size)
	if errors.Is(err, monitor.ErrGone) {
		return words.Refused("exec %s is not running", id)
	}
	return err
}

// InspectExec shows everything about a process in a container.
func (h *Home) InspectExec(id string) (*inspect.Exec, error) {
	containerID, err := h.findExec(id)
	if err != nil {
		return nil, err
	}
	store := h.execs(containerID)
	r, err := store.Record(id)
	if err != nil {
		return nil, &NoExecError{id}
	}
	run, status, err := store.Run(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NoExecError{id}
	}
	if err != nil {
		return nil, err
	}
	o := &r.Config
	i := &inspect.Exec{
		ID: id, ContainerID: containerID, DetachKeys: o.DetachKeys, Running: status.Alive(), OpenStdin: o.Stdin, OpenStdout: true, OpenStderr: true, Pid: run.Ref.Pid,
		ProcessConfig: inspect.ExecProcess{Tty: o.TTY, Entrypoint: o.Args[0], Arguments: o.Args[1:], Privileged: o.Privileged, User: o.User},
	}
	if status == state.Exited || status == state.Created && run.Error != "" {
		i.ExitCode = &run.ExitCode
	}
	return i, nil
}

// runningExecs are the IDs of the processes in a container that have records and run.
func (h *Home) runningExecs(containerID string) (list []string) {
	store := h.execs(containerID)
	ids, err := store.IDs()
	if err != nil {
		return nil
	}
	for _, id := range ids {
		if _, status, err := store.Run(id); err == nil && status.Alive() {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list
}
