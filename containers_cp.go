package forge

import (
	"context"
	"errors"
	"os"

	"github.com/forge-build/forge/container/files"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/snapshot"
)

// FileCopyOptions say how files are copied between a container and this machine.
type FileCopyOptions struct {
	Owners bool       // keep them; else a file of a container is root's, and one of this machine the caller's
	Follow bool       // copy what the source is a link to
	Events event.Sink // takes warnings, and notes of what is waited for; may be nil

	// Of a tar that is unpacked in a container:
	AsUser  bool // everything belongs to the container's user, as its files say who that is
	Replace bool // a file takes the place of a directory with all that is in it, and a directory that of a file; else they are errors
}

// tarEnd is the size of the end of a tar: what was copied is counted as docker does, who sends it as one.
const tarEnd = 1024

// CopyTo copies a file or directory of this machine into a container, running or not, and returns how many bytes a tar of it
// has. What already is there is dealt with as docker does. Links in the container never lead out of it.
func (h *Home) CopyTo(ctx context.Context, src, ref, dst string, o FileCopyOptions) (size int64, err error) {
	s, opened, err := files.HostSource(files.Name{Path: src, Follow: o.Follow})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	s.Root = !o.Owners
	err = h.withRoot(ctx, ref, o.Events, func(root *lentRoot) (err error) {
		t, err := root.Target(ctx, dst)
		if err != nil {
			return err
		}
		at, err := s.To(t)
		if err != nil {
			return err
		}
		place := t.In(at)
		dir, err := root.Writable(place, dst)
		if err != nil {
			return err
		}
		err = snapshot.Place(ctx, &s, dir, snapshot.PlaceOptions{At: place.Shown(), Owners: true})
		if err = errors.Join(err, dir.Close()); err != nil {
			return err
		}
		h.containerEvent(root.record, "extract-to-dir")
		return nil
	})
	return s.Size + tarEnd, err
}

// CopyFrom copies a file or directory of a container, running or not, to this machine, and returns how many bytes a tar of it
// has. Unless owners are kept, devices and what gives power over the machine are left out, with a warning.
func (h *Home) CopyFrom(ctx context.Context, ref, src, dst string, o FileCopyOptions) (size int64, err error) {
	t, err := files.HostTarget(dst)
	if err != nil {
		return 0, err
	}
	err = h.withSource(ctx, ref, files.Name{Path: src, Follow: o.Follow}, o.Events, func(s *files.Source) (err error) {
		at, err := s.To(t)
		if err != nil {
			return err
		}
		dir, err := os.Open(at)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, dir.Close()) }()
		plain := snapshot.Plain(s)
		tree := snapshot.Tree(plain)
		if o.Owners {
			tree = s
		}
		err = snapshot.Place(ctx, tree, dir, snapshot.PlaceOptions{At: at, Owners: o.Owners})
		if left := plain.LeftOut(); left != "" {
			o.Events.Send(event.Event{Kind: event.Warning, Text: "left out of the copy: " + left + " (--archive writes them)"})
		}
		size = s.Size + tarEnd
		return err
	})
	return size, err
}

// withSource opens a file or directory of a container for do, which may take its time: whoever reads what is copied may be slow.
func (h *Home) withSource(ctx context.Context, ref string, n files.Name, events event.Sink, do func(*files.Source) error) error {
	return h.withRoot(ctx, ref, events, func(root *lentRoot) error {
		s, err := root.Source(ctx, n)
		if err != nil {
			return err
		}
		if err := root.unlock(); err != nil {
			return err
		}
		if err := do(s); err != nil {
			return err
		}
		h.containerEvent(root.record, "archive-path")
		return nil
	})
}
