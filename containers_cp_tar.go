package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/snapshot"
)

// CopyTarTo unpacks a tar, compressed or not, into a directory of a container, and returns how many bytes it has. Files get the owners
// that the tar says, unless the options say otherwise.
func (h *Home) CopyTarTo(ctx context.Context, r io.Reader, ref, dst string, o FileCopyOptions) (size int64, err error) {
	err = h.withRoot(ctx, ref, func(c *containerRoot) (err error) {
		t, err := c.target(ctx, dst)
		if err != nil {
			return err
		}
		if !t.exists {
			return &NoFileError{path.Join("/", dst), ref}
		}
		if !t.dir {
			return words.Invalid("destination %q must be a directory", ref+":"+dst)
		}
		dir, err := c.writable(t.filePlace, dst)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, dir.Close()) }()
		layer, err := h.Layout.TarLayer(ctx, durable.Patient(ctx, r), nil)
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		store, err := h.Snapshots()
		if err != nil {
			return err
		}
		size = layer.Blob.Size
		place := snapshot.PlaceOptions{At: t.shown(), Owners: true, Replace: o.Replace}
		if o.AsUser {
			if place.Owner, err = h.ownerOf(ctx, c); err != nil {
				return err
			}
		}
		if err := store.PlaceLayer(ctx, layer, dir, place); err != nil {
			return err
		}
		h.containerEvent(c.record, "extract-to-dir")
		return nil
	})
	return size, err
}

// ownerOf is the user that a container's processes have, and its group; nil if neither the container nor its image names one.
func (h *Home) ownerOf(ctx context.Context, c *containerRoot) (*[2]uint32, error) {
	img, err := h.containerImage(ctx, c.record)
	if err != nil {
		return nil, err
	}
	name := cmp.Or(c.record.Config.User, img.Config.Config.User)
	if name == "" {
		return nil, nil
	}
	u, err := container.LookupUserIn(c.dir, name, nil)
	return &[2]uint32{u.UID, u.GID}, err
}

// CopyTarFrom writes a tar of a file or directory of a container. begin is told what that is before the first byte; it may be nil.
func (h *Home) CopyTarFrom(ctx context.Context, ref, src string, w io.Writer, o FileCopyOptions, begin func(FileStat) error) error {
	return h.withSource(ctx, ref, src, o.Follow, func(s *copySource) error {
		if begin != nil {
			st, err := s.stat()
			if err == nil {
				err = begin(st)
			}
			if err != nil {
				return err
			}
		}
		if s.contents {
			s.Name = ""
			return snapshot.ExportContents(ctx, s, w)
		}
		return snapshot.Export(ctx, s, w)
	})
}
