package forge

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// StopOptions say how to stop a container.
type StopOptions struct {
	Signal  string     // "" is the container's
	Seconds *int       // until SIGKILL; nil is what the container says, or 10; -1 is never
	Events  event.Sink // takes notes of what is waited for; may be nil
}

// defaultStopTimeout is docker's, in seconds.
const defaultStopTimeout = 10

// StopContainer ends a container: it is asked to by a signal, and killed if it does not end in time. Nothing is done if the
// container does not run.
func (h *Home) StopContainer(ctx context.Context, ref string, o StopOptions) error {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	err = h.end(ctx, r, o, monitor.Client.Stop)
	if errors.Is(err, monitor.ErrGone) {
		return nil
	}
	return err
}

// end has a container's monitor end it in some way, with the signal and the time of the options or, if they say nothing, its own.
func (h *Home) end(ctx context.Context, r *containerRecord, o StopOptions,
	how func(c monitor.Client, ctx context.Context, sig syscall.Signal, seconds int) error,
) error {
	img, err := h.containerImage(ctx, r)
	if err != nil {
		return err
	}
	sig, seconds, err := o.of(&r.Config, img)
	if err != nil {
		return err
	}
	return (&patience{home: h, record: r, events: o.Events}).end(func() error { return how(h.monitorOf(r), ctx, sig, seconds) })
}

// of is what the options ask for; what they leave open, a container and its image say.
func (o StopOptions) of(c *containerConfig, img *image.Image) (sig syscall.Signal, seconds int, err error) {
	name := o.Signal
	if name == "" {
		name = c.stopSignal(img)
	}
	if sig, err = ParseSignal(name); err != nil {
		return 0, 0, err
	}
	seconds = defaultStopTimeout
	for _, s := range []*int{c.StopTimeout, o.Seconds} {
		if s != nil {
			seconds = *s
		}
	}
	return sig, seconds, nil
}

// RestartContainer stops a container, if it runs, and starts it. One that runs is restarted by its monitor, so that it is not
// taken for one that has ended.
func (h *Home) RestartContainer(ctx context.Context, ref string, o StopOptions) error {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	err = h.end(ctx, r, o, monitor.Client.Restart)
	if !errors.Is(err, monitor.ErrGone) {
		return err
	}
	if err := h.spawn(ctx, r, nil, o.Events); err != nil {
		return err
	}
	h.containerEvent(r, "restart")
	return nil
}

// KillContainer sends a container's first process a signal; "" is SIGKILL. After SIGKILL it waits for the end. events takes notes of what
// that waits for; it may be nil.
func (h *Home) KillContainer(ctx context.Context, ref, signal string, events event.Sink) error {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	sig := syscall.SIGKILL
	if signal != "" {
		if sig, err = ParseSignal(signal); err != nil {
			return err
		}
	}
	err = (&patience{home: h, record: r, events: events}).end(func() error { return h.monitorOf(r).Signal(ctx, sig) })
	if errors.Is(err, monitor.ErrGone) {
		return words.Refusal("kill", ref, r.ID, string(state.Exited))
	}
	return err
}

// SignalContainer sends a container's first process a signal, unless it has ended.
func (h *Home) SignalContainer(ctx context.Context, ref string, sig syscall.Signal) error {
	return h.askMonitor("", ref, func(c monitor.Client) error { return c.Signal(ctx, sig) })
}

// PauseContainer stops all processes of a container until UnpauseContainer.
func (h *Home) PauseContainer(ctx context.Context, ref string) error {
	return h.askMonitor("pause", ref, func(c monitor.Client) error { return c.Pause(ctx) })
}

// UnpauseContainer lets the processes of a paused container go on.
func (h *Home) UnpauseContainer(ctx context.Context, ref string) error {
	return h.askMonitor("unpause", ref, func(c monitor.Client) error { return c.Unpause(ctx) })
}

// ResizeContainer sets the size of a running container's terminal.
func (h *Home) ResizeContainer(ctx context.Context, ref string, size TerminalSize) error {
	return h.askMonitor("", ref, func(c monitor.Client) error { return c.Resize(ctx, size) })
}

// askMonitor asks the monitor of a container that runs and is in a state for the verb; with "" in any.
func (h *Home) askMonitor(verb, ref string, ask func(monitor.Client) error) error {
	r, _, status, err := h.findRun(ref)
	if err != nil {
		return err
	}
	if err := words.Refusal(verb, ref, r.ID, string(status)); err != nil {
		return err
	}
	err = ask(h.monitorOf(r))
	if errors.Is(err, monitor.ErrGone) {
		return words.Refused("container %s is not running", r.ID)
	}
	return err
}

// WaitContainer waits until a container does not run, and returns its exit status.
func (h *Home) WaitContainer(ctx context.Context, ref string) (int, error) {
	return h.WaitContainerFor(ctx, ref, WaitNotRunning, nil)
}

// AttachContainer connects streams with those of a running container until it ends, and returns the exit status; or until in
// fails with ErrDetached, which it returns.
func (h *Home) AttachContainer(ctx context.Context, ref string, s Streams) (int, error) {
	r, _, status, err := h.findRun(ref)
	if err != nil {
		return 0, err
	}
	if err := words.Refusal("attach", ref, r.ID, string(status)); err != nil {
		return 0, err
	}
	code, err := h.monitorOf(r).Attach(ctx, s)
	if errors.Is(err, monitor.ErrGone) { // since then it has ended
		return 0, words.Refusal("attach", ref, r.ID, string(state.Exited))
	}
	return code, err
}

// RenameContainer gives a container another name. events, which may be nil, takes notes of what is waited for.
func (h *Home) RenameContainer(ctx context.Context, ref, name string, events event.Sink) error {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	if err := words.CheckName(name); err != nil {
		return err
	}
	if r.Name == name {
		return words.Invalid("Renaming a container with the same name as its current name")
	}
	store, patience := h.containers(), &patience{home: h, record: r, events: events}
	if err := patience.locked("the names of containers", store.NamesLockFile(), func() error { return store.Rename(ctx, r.ID, name) }); err != nil {
		return err
	}
	if err := h.callMonitor(ctx, r, callRename, attachment{Network: name}); err != nil {
		return err
	}
	h.containerEvent(r, "rename", "name", name, "oldName", "/"+r.Name)
	return nil
}

// RemoveContainerOptions say how to remove a container.
type RemoveContainerOptions struct {
	Force   bool       // kill it, if it runs
	Volumes bool       // remove the volumes that were made for it and have no name
	Events  event.Sink // takes notes of what is waited for; may be nil
}

// RemoveContainer removes a container, which must not run unless it may be killed.
func (h *Home) RemoveContainer(ctx context.Context, ref string, o RemoveContainerOptions) (err error) {
	id, err := h.containers().Find(ref)
	if err != nil {
		return err
	}
	store := h.containers()
	r, recordErr := store.Record(id)
	if recordErr != nil { // damaged: what there is goes
		r = &containerRecord{ID: id, Name: id[:12]}
	}
	patience := &patience{home: h, record: r, events: o.Events}
	if o.Force {
		_ = patience.end(func() error { h.forceEnd(ctx, r); return nil }) // the state says whether it has worked
	}
	lock, err := patience.lock(ctx)
	if err != nil {
		return o.forgive(err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if recordErr == nil {
		if err := patience.end(func() error { return h.stopped(ctx, r, ref, o) }); err != nil {
			return err
		}
	}
	if err := store.Remove(ctx, id, snapshot.RemoveTree); err != nil {
		return err
	}
	h.containerEvent(r, "destroy")
	err = h.releaseVolumes(ctx, r)
	if o.Volumes {
		err = errors.Join(err, h.dropVolumes(ctx, r))
	}
	return err
}

// answerTime is how long a monitor may take to end its container.
const answerTime = 10 * time.Second

// forceEnd kills a container, with its monitor if that does not answer.
func (h *Home) forceEnd(ctx context.Context, r *containerRecord) {
	limited, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err := h.monitorOf(r).Signal(limited, unix.SIGKILL)
	if err != nil && !errors.Is(err, monitor.ErrGone) && !errors.Is(err, os.ErrProcessDone) {
		err = h.monitorOf(r).Stop(limited, unix.SIGKILL, 0)
	}
	if limited.Err() == nil || ctx.Err() != nil || err == nil {
		return
	}
	_ = h.containers().KillMonitor(ctx, r.ID) // the state says whether it has worked
}

// forgive forgives that a container is gone that is to go at any price.
func (o RemoveContainerOptions) forgive(err error) error {
	if _, gone := errors.AsType[*state.NotFoundError](err); gone && o.Force {
		return nil
	}
	return err
}

// stopped makes sure that a container does not run. The caller holds its lock.
func (h *Home) stopped(ctx context.Context, r *containerRecord, ref string, o RemoveContainerOptions) error {
	_, status, err := h.containers().Run(r.ID)
	if err != nil {
		return err
	}
	if status != state.Running && status != state.Paused && status != state.Restarting {
		return nil
	}
	if !o.Force {
		return words.Refusal("rm", ref, r.ID, string(status))
	}
	if err := h.monitorOf(r).Stop(ctx, unix.SIGKILL, 0); err != nil && !errors.Is(err, monitor.ErrGone) {
		return err
	}
	return nil
}

// removeEnded removes a container that has just ended, for its monitor. Its files are deleted by remove.
func (h *Home) removeEnded(ctx context.Context, r *containerRecord, remove func(path string) error) error {
	store := h.containers()
	lock, err := store.Lock(ctx, r.ID)
	if err != nil {
		return RemoveContainerOptions{Force: true}.forgive(err)
	}
	err = store.Remove(ctx, r.ID, remove)
	h.containerEvent(r, "destroy")
	return errors.Join(err, lock.Close(), h.dropVolumes(ctx, r))
}
