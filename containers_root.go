package forge

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/files"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/runtime"
)

// A lentRoot is the root directory of a container, open.
type lentRoot struct {
	*files.Root
	record *containerRecord
	lock   *os.File // keeps a container that does not run from being started, written to and removed
}

// unlock is for those who only read, and for as long as somebody likes: what they read may change from then on, as that of a container
// that runs.
func (r *lentRoot) unlock() error {
	if err := r.lock.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// withRoot opens the root directory of a container for do. One that does not run is not started meanwhile, unless do unlocks it. events, which may
// be nil, takes notes of what is waited for.
func (h *Home) withRoot(ctx context.Context, ref string, events event.Sink, do func(*lentRoot) error) (err error) {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	lock, err := (&patience{home: h, record: r, events: events}).lock(ctx)
	if err != nil {
		return err
	}
	lent := &lentRoot{record: r, lock: lock}
	defer func() { err = errors.Join(err, lent.unlock()) }()
	run, status, err := h.containers().Run(r.ID)
	if err != nil {
		return err
	}
	ended := func(err error) error {
		return fmt.Errorf("container %s has ended or is out of reach: %w; try again", ref, err)
	}
	switch {
	case status == state.Restarting:
		return fmt.Errorf("container %s is restarting, wait until the container is running", r.ID)
	case !status.Alive():
		return h.withStoppedRoot(ctx, lent, ref, do)
	}
	if err := lent.unlock(); err != nil {
		return err
	}
	t, err := runtime.Open(run.Ref)
	if err != nil {
		return ended(err)
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	dir, err := t.Root()
	if err != nil {
		return ended(err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	lent.Root = files.Open(ref, dir, nil)
	return do(lent)
}

func (h *Home) withStoppedRoot(ctx context.Context, lent *lentRoot, ref string, do func(*lentRoot) error) (err error) {
	r := lent.record
	img, err := h.containerImage(ctx, r)
	if err != nil {
		return err
	}
	if err := h.layersHere(ctx, r); err != nil {
		return err
	}
	draft, err := h.draftOf(ctx, r, img)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, draft.Close()) }()
	dir, err := draft.Mount(ctx)
	if err != nil {
		return err
	}
	var mounts closers.Stack
	defer func() { err = errors.Join(err, mounts.Close()) }()
	open := func(ctx context.Context, m *container.MountPoint) (*os.File, error) {
		dir, err := h.openMountDir(ctx, m)
		if err != nil {
			return nil, err
		}
		if m.Type == "volume" {
			mounts.Push(h.released(ctx, m.Name))
		}
		mounts.Push(dir.Close)
		return dir, nil
	}
	lent.Root = files.Open(ref, dir, &files.Stopped{Mounts: h.mountPoints(r), ReadOnly: r.Config.ReadOnly, Open: open})
	return do(lent)
}
