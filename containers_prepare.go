package forge

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/logs"
	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
	"github.com/forge-build/forge/snapshot"
)

// A keeper does for a monitor what needs the rooms of the house: it prepares the container, writes its log, and takes it
// down.
type keeper struct {
	home    *Home
	record  *containerRecord                // changes while the container does not run, or under the monitor's lock
	shown   atomic.Pointer[containerRecord] // the same, for events
	image   *image.Image
	reports keepReports
	log     *logs.Writer

	alive    *os.File          // the monitor's lock
	listener *net.UnixListener // others reach it there

	// Of the run that goes on.
	process   *runtime.Process
	container *container.Container
	sandbox   *network.Sandbox // nil if the container has no network of its own
	linked    []container.Host // containers that it is linked to, in the default network
	coming    *comingNetwork   // of the run that is about to begin
	volumes   []*os.File       // what is open of them, so that it stays mounted
	closing   chan struct{}    // closed when the root of the run before is unmounted; nil is before the first
}

// becomes takes what the container is called and connected to from now on.
func (k *keeper) becomes(r *containerRecord) {
	k.record = r
	k.shown.Store(r)
}

// config says how the container is kept.
func (k *keeper) config(ctx context.Context) (_ monitor.Config, err error) {
	o := &k.record.Config
	if k.log, err = k.openLog(); err != nil {
		return monitor.Config{}, err
	}
	c := monitor.Config{
		Log:    k.log,
		Start:  k.start,
		Record: k.write,
		Event: func(action string, attributes ...string) {
			k.home.containerEvent(k.shown.Load(), action, attributes...)
		},
		Left: func(detached bool) {
			if detached {
				k.home.containerEvent(k.shown.Load(), "detach")
			}
		},
		Freeze: func(ref runtime.Ref) error {
			return onTarget(ref, func(t *runtime.Target) error { return t.Freeze(ctx) })
		},
		Thaw:   func(ref runtime.Ref) error { return onTarget(ref, (*runtime.Target).Thaw) },
		Probe:  k.probe,
		Call:   func(run *state.Run, name string, arg []byte) error { return k.call(ctx, run, name, arg) },
		Health: healthCheck(o, k.image),
		Done:   func() { k.done(ctx) },

		Policy:     k.policy,
		StopSignal: signalNumber(o.stopSignal(k.image)),
		Stdin:      o.Interactive,
		StdinOnce:  o.StdinOnce,
		Terminal:   o.TTY,
		Size:       TerminalSize{Rows: uint16(o.ConsoleSize[0]), Cols: uint16(o.ConsoleSize[1])},
	}
	if k.reports.alone != nil {
		c.Sleep = k.sleep
	}
	if was := k.reports.woken(); was != nil {
		c.Memory = &was.Memory
	}
	return c, nil
}

// write writes how the run goes, but for the end of a container that is removed next.
func (k *keeper) write(run *state.Run) (err error) {
	if !k.record.Config.AutoRemove || run.Started.IsZero() || run.Monitor != 0 {
		err = k.home.containers().WriteRun(k.record.ID, run)
	}
	return errors.Join(err, failpoint.At("keep.recorded"))
}

// policy is the container's restart policy, which a user may have changed since it was started.
func (k *keeper) policy() monitor.Policy {
	r := k.shown.Load()
	if r.Config.AutoRemove { // which goes with no policy, now and later
		return monitor.Policy{}
	}
	if now, err := k.home.containers().Record(r.ID); err == nil {
		r = now
	}
	p, _ := monitor.ParsePolicy(r.Config.Restart) // was checked when it was written
	return p
}

// onTarget does something to a running container.
func onTarget(ref runtime.Ref, do func(*runtime.Target) error) error {
	t, err := runtime.Open(ref)
	if err != nil {
		return err
	}
	return errors.Join(do(t), t.Close())
}

// A keptProcess is the container's process, and what is to be given back when it has ended.
type keptProcess struct {
	*runtime.Process
	open closers.Stack
}

// Wait waits for the end of the process and gives back all that the container was made of.
func (p *keptProcess) Wait() (runtime.Exit, error) {
	exit, err := p.Process.Wait()
	return exit, errors.Join(err, p.open.Close())
}

// options are what the container is made of, but for its root and mounts.
func (k *keeper) options() (container.Options, error) {
	o := &k.record.Config
	options, err := o.parse()
	if err == nil {
		err = o.complete(&options, k.image, k.record.ID)
	}
	return options, err
}

// start prepares the container and starts it.
func (k *keeper) start(ctx context.Context, io runtime.Stdio, run *state.Run, size TerminalSize) (_ monitor.Process, err error) {
	h := k.home
	if k.reports.woken() != nil {
		return k.adopt(ctx, io)
	}
	if !run.Started.IsZero() {
		r, err := h.containers().Record(k.record.ID) // it may have another name and other networks by now
		if err != nil {
			return nil, err
		}
		k.becomes(r)
	}
	options, err := k.options()
	if err != nil {
		return nil, err
	}
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	var open closers.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, open.Close(), k.coming.drop())
		}
	}()
	if err := k.addHosts(&options); err != nil {
		return nil, err
	}
	if k.coming == nil || k.coming.taken {
		k.coming = h.beginNetwork(ctx, k.record, k.image, nil)
	}
	if err := k.openFiles(ctx, &options, &open); err != nil {
		return nil, err
	}
	factory := container.Factory{Snapshots: store, Staging: h.staging, Events: k.reports.events, Connect: k.connect}
	open.Push(factory.Close)
	options.Process.Rows, options.Process.Cols = size.Rows, size.Cols
	options.Limits.Account, options.Limits.Ahead = k.reports.alone != nil, k.reports.cgroup // to count costs milliseconds with cgroups of version 1
	c, err := factory.Prepare(ctx, options)
	if err != nil {
		return nil, err
	}
	open.Push(c.Close)
	k.container = c
	if err := failpoint.At("keep.prepared"); err != nil {
		return nil, err
	}
	k.connected(run)
	k.reports.events.Send(event.Event{Kind: event.Started})
	p, err := c.Start(ctx, io)
	if err != nil {
		return nil, err
	}
	k.process = p
	_ = failpoint.At("keep.started")
	return &keptProcess{p, open}, nil
}

// openFiles opens the root, the namespaces of others and the mounts that the container is to have.
func (k *keeper) openFiles(ctx context.Context, options *container.Options, open *closers.Stack) error {
	k.awaitUnmount()
	draft, err := k.home.draftOf(ctx, k.record, k.image)
	if err != nil {
		return err
	}
	open.Push(func() error { return k.unmount(draft) })
	options.Root = draft
	if err := k.home.share(&k.record.Config.NamespaceOptions, options, open); err != nil {
		return err
	}
	mounts, kept, err := k.home.openMounts(ctx, k.record, open)
	if err != nil {
		return err
	}
	k.volumes = kept
	options.Mounts = append(mounts, options.Mounts...)
	return nil
}

// unmount closes the root of a run that has ended. Nobody but the next run waits for that of a container that is removed next.
func (k *keeper) unmount(draft *snapshot.Draft) error {
	if !k.record.Config.AutoRemove {
		return draft.Close()
	}
	store, err := k.home.Snapshots()
	if err != nil {
		return errors.Join(err, draft.Close())
	}
	closed := make(chan struct{})
	k.closing = closed
	k.home.later(func() error {
		err := draft.Close()
		close(closed)
		return errors.Join(err, store.Release())
	})
	return nil
}

// awaitUnmount waits until the root of the run before is unmounted.
func (k *keeper) awaitUnmount() {
	if k.closing != nil {
		<-k.closing
	}
}

// done removes the container that is to go when it has ended.
func (k *keeper) done(ctx context.Context) {
	_ = failpoint.At("keep.ended")
	if k.record.Config.AutoRemove {
		remove := func(path string) error { // nobody asks for the files any more
			k.home.later(func() error {
				k.awaitUnmount()
				return snapshot.RemoveTree(path)
			})
			return nil
		}
		_ = k.home.removeEnded(ctx, k.record, remove) // what is left is removed by the next prune
	}
}

// close ends the log.
func (k *keeper) close() { k.log.Close() }

// openLog opens the container's log to be written further.
func (k *keeper) openLog() (*logs.Writer, error) {
	c, err := k.home.logConfig(k.record, k.image)
	if c == nil || err != nil {
		return nil, err
	}
	return logs.Open(k.home.logPath(k.record.ID), *c)
}
