package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/files"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/snapshot"
)

// CopyTarTo unpacks a tar, compressed or not, into a directory of a container, and returns how many bytes it has. Files get the owners
// that the tar says, unless the options say otherwise. A container that does not run can be started, and removed, while the tar comes.
func (h *Home) CopyTarTo(ctx context.Context, r io.Reader, ref, dst string, o FileCopyOptions) (size int64, err error) {
	err = h.withRoot(ctx, ref, o.Events, func(root *lentRoot) error { // before the tar is taken
		_, dir, err := tarTarget(ctx, root.Root, ref, dst)
		if err != nil {
			return err
		}
		return dir.Close()
	})
	if err != nil {
		return 0, err
	}
	layer, err := h.Layout.TarLayer(ctx, durable.Patient(ctx, r), nil)
	if err != nil {
		return 0, fmt.Errorf("standard input: %w", err)
	}
	store, err := h.Snapshots()
	if err != nil {
		return 0, err
	}
	err = h.withRoot(ctx, ref, o.Events, func(root *lentRoot) (err error) {
		t, dir, err := tarTarget(ctx, root.Root, ref, dst)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, dir.Close()) }()
		place := snapshot.PlaceOptions{At: t.Shown(), Owners: true, Replace: o.Replace}
		if o.AsUser {
			if place.Owner, err = h.ownerOf(ctx, root.record, root.Dir); err != nil {
				return err
			}
		}
		if err := store.PlaceLayer(ctx, layer, dir, place); err != nil {
			return err
		}
		h.containerEvent(root.record, "extract-to-dir")
		return nil
	})
	return layer.Blob.Size, err
}

// tarTarget opens the directory of a container that a tar is to be unpacked in.
func tarTarget(ctx context.Context, root *files.Root, ref, dst string) (t files.Target, dir *os.File, err error) {
	t, err = root.Target(ctx, dst)
	switch {
	case err != nil:
		return t, nil, err
	case !t.Exists:
		return t, nil, &NoFileError{Path: path.Join("/", dst), Container: ref}
	case !t.Dir:
		return t, nil, words.Invalid("destination %q must be a directory", ref+":"+dst)
	}
	dir, err = root.Writable(t.Place, dst)
	return t, dir, err
}

// ownerOf is the user that a container's processes have, and its group; nil if neither the container nor its image names one.
func (h *Home) ownerOf(ctx context.Context, r *containerRecord, root *os.File) (*[2]uint32, error) {
	img, err := h.containerImage(ctx, r)
	if err != nil {
		return nil, err
	}
	name := cmp.Or(r.Config.User, img.Config.Config.User)
	if name == "" {
		return nil, nil
	}
	u, err := container.LookupUserIn(root, name, nil)
	return &[2]uint32{u.UID, u.GID}, err
}

// CopyTarFrom writes a tar of a file or directory of a container. begin is told what that is before the first byte; it may be nil.
func (h *Home) CopyTarFrom(ctx context.Context, ref, src string, w io.Writer, o FileCopyOptions, begin func(FileStat) error) error {
	return h.withSource(ctx, ref, files.Name{Path: src, Follow: o.Follow}, o.Events, func(s *files.Source) error {
		if begin != nil {
			st, err := s.Stat()
			if err == nil {
				err = begin(st)
			}
			if err != nil {
				return err
			}
		}
		if s.Contents {
			s.Name = ""
			return snapshot.ExportContents(ctx, s, w)
		}
		return snapshot.Export(ctx, s, w)
	})
}
