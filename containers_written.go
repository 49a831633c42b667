package forge

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// A FileChange is a path that a container has otherwise than its image.
type FileChange = snapshot.Change

// ContainerDiff lists what a container, running or not, has changed in its root file system. What is in its volumes and other
// mounts is not in the list.
func (h *Home) ContainerDiff(ctx context.Context, ref string) (list []FileChange, err error) {
	err = h.withWritten(ctx, ref, asItIs, nil, func(w *writtenFiles) (err error) {
		list, err = w.files.Diff(ctx)
		return err
	})
	return list, err
}

// ExportOptions say where the files of a container go.
type ExportOptions struct {
	File   string     // which is there whole or not at all; "-" is Stdout
	Stdout io.Writer  // for "-"
	Events event.Sink // takes notes of what is waited for; may be nil
}

// ExportContainer writes the root file system of a container, without its volumes and other mounts, as a tar. A container that runs is paused
// while what it has written is read, if it can be.
func (h *Home) ExportContainer(ctx context.Context, ref string, o ExportOptions) error {
	return h.withWritten(ctx, ref, pausedIfPossible, o.Events, func(w *writtenFiles) error {
		layers, err := w.commit(ctx)
		if err != nil {
			return err
		}
		if err := w.release(); err != nil { // all is read from layers now
			return err
		}
		view, err := w.store.View(ctx, layers)
		if err != nil {
			return err
		}
		err = writeTo(ctx, o.File, o.Stdout, func(out io.Writer) error { return snapshot.Export(ctx, view, out) })
		if err := errors.Join(err, view.Close()); err != nil {
			return fmt.Errorf("export %s: %w", ref, err)
		}
		h.containerEvent(w.record, "export")
		return nil
	})
}

// A reading says what becomes of a container that runs while what it has written is read.
type reading int

const (
	asItIs           reading = iota // it goes on
	pausedIfPossible                // it is paused, unless it has no cgroup for that
	paused
)

// written is what a container has written, open to be read.
type writtenFiles struct {
	record  *containerRecord
	image   *image.Image
	store   *snapshot.Store
	files   *snapshot.Kept
	release func() error // lets the container go on, or be started
}

// withWritten opens what a container has written for do. events, which may be nil, takes notes of what is waited for.
func (h *Home) withWritten(ctx context.Context, ref string, how reading, events event.Sink, do func(*writtenFiles) error) (err error) {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	img, err := h.containerImage(ctx, r)
	if err != nil {
		return err
	}
	w := &writtenFiles{record: r, image: img}
	if w.release, err = h.still(ctx, &patience{home: h, record: r, events: events}, how); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.release()) }()
	store, done, err := h.snapshotsOf(ctx, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	w.store = store
	if w.files, err = store.OpenKept(ctx, img.Layers(), h.rootDir(r.ID)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.files.Close()) }()
	return do(w)
}

// commit makes layers of the image's and of what was written.
func (w *writtenFiles) commit(ctx context.Context) ([]image.Layer, error) {
	layers := w.image.Layers()
	layer, changed, err := w.files.Commit(ctx)
	if err != nil {
		return nil, fmt.Errorf("what container %s has written: %w", w.record.Name, err)
	}
	if changed {
		layers = append(layers[:len(layers):len(layers)], layer)
	}
	return layers, nil
}

// still keeps a container from writing, or from being started, until what it returns is called. Further calls do nothing.
func (h *Home) still(ctx context.Context, p *patience, how reading) (release func() error, err error) {
	r := p.record
	once := func(f func() error) func() error {
		return func() error {
			if f == nil {
				return nil
			}
			err := f()
			f = nil
			return err
		}
	}
	if how == asItIs {
		return once(nil), nil
	}
	lock, err := p.lock(ctx)
	if err != nil {
		return nil, err
	}
	_, status, err := h.containers().Run(r.ID)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if !status.Alive() && status != state.Restarting {
		return once(lock.Close), nil
	}
	if err := lock.Close(); err != nil || status == state.Restarting {
		return once(nil), err
	}
	hold, err := h.monitorOf(r).Hold(ctx)
	if err == nil {
		return once(hold), nil
	}
	_, status, runErr := h.containers().Run(r.ID)
	if runErr == nil && (!status.Alive() || how == pausedIfPossible) && ctx.Err() == nil {
		return once(nil), nil // it has ended meanwhile, or cannot be paused
	}
	return nil, fmt.Errorf("pause container %s: %w; --pause=false reads what it has written while it runs", r.Name, err)
}
