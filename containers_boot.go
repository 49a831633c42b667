package forge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
)

// Boot starts the containers whose restart policies say so after the machine was started, and removes those that were to go when
// they ended. It may be called at any time: what runs is left alone. It returns the IDs of what it started.
func (h *Home) Boot(ctx context.Context) (started []string, err error) {
	list, err := h.Containers(ctx, ListOptions{All: true, Last: -1})
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, i := range slices.Backward(list) {
		if i.Status != state.Exited {
			continue
		}
		r, err := h.findContainer(i.ID)
		if err != nil {
			continue // it is gone
		}
		policy, err := monitor.ParsePolicy(r.Config.Restart)
		switch {
		case err != nil:
		case r.Config.AutoRemove:
			err = h.RemoveContainer(ctx, i.ID, RemoveContainerOptions{Force: true, Volumes: true})
		case policy.AtBoot(&i.Run):
			if err = h.spawn(ctx, r, nil, nil); err == nil {
				started = append(started, i.ID)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("container %s: %w", r.Name, err))
		}
	}
	return started, errors.Join(errs...)
}

// Shutdown stops all containers that run, at once, as the machine is to stop. It is not a user who stops them: their restart policies do not
// rest, and the next [Home.Boot] starts them. It returns the IDs of what it stopped.
func (h *Home) Shutdown(ctx context.Context) (stopped []string, err error) {
	list, err := h.Containers(ctx, ListOptions{Last: -1})
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	errs, done := make([]error, len(list)), make([]bool, len(list))
	for i, c := range list {
		all.Go(func() {
			r, err := h.findContainer(c.ID)
			if err != nil {
				return // it is gone
			}
			err = h.end(ctx, r, StopOptions{}, monitor.Client.Shutdown)
			if done[i] = err == nil; !done[i] && !errors.Is(err, monitor.ErrGone) {
				errs[i] = fmt.Errorf("container %s: %w", r.Name, err)
			}
		})
	}
	all.Wait()
	for i, c := range list {
		if done[i] {
			stopped = append(stopped, c.ID)
		}
	}
	return stopped, errors.Join(errs...)
}
