package forge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/flock"
)

// keepImage makes sure that the image of a container whose record has just been written is here; else the container goes. Nothing has held the
// image before, which would take a file: a prune that has not seen the record is over when the lock is free, and a later one sees it.
func (h *Home) keepImage(ctx context.Context, r *containerRecord, img *image.Image) error {
	if r.Config.Lent != nil {
		return nil // its layers are elsewhere
	}
	lock, err := flock.Lock(ctx, filepath.Join(h.Dir, "lock"), flock.Shared)
	if err != nil {
		err = fmt.Errorf("store: %w", err)
	} else {
		err = errors.Join(h.hasImage(r.Image, img), lock.Close())
	}
	if err != nil {
		err = errors.Join(err, h.RemoveContainer(context.WithoutCancel(ctx), r.ID, RemoveContainerOptions{Force: true, Volumes: true}))
	}
	return err
}

// hasImage is a *NotFoundError if an image that was found by name has been removed since. What a prune takes of one it takes whole: where a part alone
// is missing, the image is damaged.
func (h *Home) hasImage(name string, img *image.Image) error {
	parts := append([]ocispec.Descriptor{img.Descriptor, img.Manifest.Config}, img.Manifest.Layers...)
	for _, d := range parts {
		here, err := h.Layout.Has(d)
		switch {
		case err != nil:
			return err
		case !here && d.Digest == img.Descriptor.Digest:
			return &NotFoundError{Name: name, Hint: "it was removed meanwhile"}
		case !here:
			return fmt.Errorf("image %s is damaged: %s is not in the store; see forge system fsck --repair", name, d.Digest)
		}
	}
	return nil
}
