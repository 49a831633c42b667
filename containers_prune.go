package forge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event/journal"
)

// PruneContainers removes the containers that do not run, as far as docker's filters until=TIME, label=K[=V] and label!=K[=V]
// let it. It returns the IDs of those, and how many bytes they had written.
func (h *Home) PruneContainers(ctx context.Context, filters []string) (removed []string, bytes int64, err error) {
	takes, err := pruneFilter(filters, time.Now())
	if err != nil {
		return nil, 0, err
	}
	list, err := h.Containers(ctx, ListOptions{All: true, Last: -1})
	if err != nil {
		return nil, 0, err
	}
	var errs []error
	for _, i := range list {
		if h.inUse(i.ID) || !takes(&i) {
			continue
		}
		_ = h.measure(ctx, &i) // what cannot be measured can be removed
		err := h.RemoveContainer(ctx, i.ID, RemoveContainerOptions{})
		if err != nil && h.inUse(i.ID) {
			continue // it has been started, or removed, meanwhile
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("container %s: %w", i.ID[:12], err))
			continue
		}
		removed = append(removed, i.ID)
		bytes += i.Written
	}
	h.pruneEvent(journal.Container, bytes)
	return removed, bytes, errors.Join(errs...)
}

// startTime is how long a container may take from being created to being started by the same command.
const startTime = time.Minute

// inUse reports whether a container runs, or is about to: one that goes when it ends is started by who has created it. One that is
// gone is in use, too.
func (h *Home) inUse(id string) bool {
	i, err := h.Container(id)
	if _, gone := errors.AsType[*state.NotFoundError](err); gone {
		return true
	}
	r, recordErr := h.containers().Record(id)
	starts := recordErr == nil && i.Status == state.Created && r.Config.AutoRemove && time.Since(r.Created) < startTime
	return err == nil && (i.Status.Alive() || i.Status == state.Restarting || starts)
}

// pruneFilter reads filters of docker's prunes.
func pruneFilter(list []string, now time.Time) (func(*ContainerInfo) bool, error) {
	var until time.Time
	labels := filters{}
	var without []string
	for _, f := range list {
		key, value, err := cutFilter(f)
		if err != nil {
			return nil, err
		}
		switch key {
		case "until":
			if !until.IsZero() {
				return nil, words.Invalid("more than one until filter specified")
			}
			if until, err = words.ParseTime(value, now); err != nil {
				return nil, err
			}
		case "label":
			labels["label"] = append(labels["label"], value)
		case "label!":
			without = append(without, value)
		default:
			return nil, words.Invalid("invalid filter '%s'", key)
		}
	}
	return func(i *ContainerInfo) bool {
		has := func(label string) bool { return hasLabel(i.Labels, label) }
		return (until.IsZero() || i.Created.Before(until)) && labels.take(i.matches) && !slices.ContainsFunc(without, has)
	}, nil
}

// containerUsage is how much containers have written. What those that do not run have is there for the taking.
func (h *Home) containerUsage(ctx context.Context) (k KindUsage, err error) {
	list, err := h.Containers(ctx, ListOptions{All: true, Last: -1, Size: true})
	k.Name, k.Count = "Containers", len(list)
	for _, i := range list {
		k.Bytes += i.Written
		if i.Status.Alive() || i.Status == state.Restarting {
			k.Active++
		} else {
			k.Reclaimable += i.Written
		}
	}
	return k, err
}
