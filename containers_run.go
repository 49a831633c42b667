package forge

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
)

// RunHere creates a container and runs it attached to streams, with this process as its monitor: it ends when this process
// does. created is told the container's ID before it is started. It returns the exit status.
func (h *Home) RunHere(ctx context.Context, o ContainerOptions, streams Streams, events event.Sink, created func(id string) error) (status int, err error) {
	space := beginNamespace(o.Network)
	defer closeNamespace(space)
	cgroup := runtime.BeginCgroup(false)
	defer cgroup.Close()
	var mounting sync.WaitGroup
	defer mounting.Wait()
	r, img, err := h.create(ctx, o, events, func(img *image.Image) {
		mounting.Go(func() { h.mountAhead(ctx, img) })
	})
	if err != nil {
		return 0, err
	}
	coming := h.beginNetwork(ctx, r, img, space)
	defer func() { err = errors.Join(err, coming.drop()) }()
	if err := created(r.ID); err != nil {
		return 0, errors.Join(err, h.RemoveContainer(ctx, r.ID, RemoveContainerOptions{Force: true, Volumes: true}))
	}
	lock, err := h.containers().Lock(ctx, r.ID)
	if err != nil {
		return 0, err
	}
	ours, file, err := socketPair()
	if err != nil {
		return 0, errors.Join(err, lock.Close())
	}
	conn, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return 0, errors.Join(err, lock.Close())
	}
	theirs, _ := conn.(*net.UnixConn)
	done := make(chan struct{})
	var attachErr error
	attached, detach := context.WithCancel(ctx)
	defer detach()
	go func() {
		defer close(done)
		_, attachErr = monitor.Attach(attached, ours, streams)
	}()
	exit, err := h.keep(ctx, r.ID, []*net.UnixConn{theirs}, keepReports{
		record: r, image: img, network: coming, cgroup: cgroup, events: events,
		started: func() { _ = lock.Close() },
	})
	if err != nil { // it was not started, so that nobody tells who is attached
		detach()
		<-done
		if closeErr := lock.Close(); !errors.Is(closeErr, os.ErrClosed) {
			err = errors.Join(err, closeErr)
		}
		if o.AutoRemove {
			err = errors.Join(err, h.RemoveContainer(ctx, r.ID, RemoveContainerOptions{Force: true, Volumes: true}))
		}
		return exit.Code, err
	}
	<-done
	if exit.OOM {
		events.Send(outOfMemory(r))
	}
	return exit.Code, attachErr
}

// outOfMemory says why a container has ended, which its exit status of a signal does not.
func outOfMemory(r *containerRecord) event.Event {
	text := "out of memory: the kernel ended a process of container " + r.Name
	if limit := r.Config.Memory; limit != "" {
		text += ", which may have " + limit + " (--memory)"
	}
	return event.Event{Time: time.Now(), Kind: event.Warning, Text: text}
}
