package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/image"
)

// checkFilters reads docker's filters of prunes.
func (o *PruneOptions) checkFilters(now time.Time) (err error) {
	var until time.Time
	var rest []string
	for _, f := range o.Filters {
		key, value, err := cutFilter(f)
		if err != nil {
			return err
		}
		switch {
		case key == "dangling" && o.takes(PruneImages):
			dangling, err := strconv.ParseBool(value)
			if err != nil {
				return words.Invalid("invalid filter 'dangling=%s'", value)
			}
			o.All = !dangling
			continue
		case key == "until" && o.Volumes:
			return words.Invalid(`The "until" filter is not supported with "--volumes"`)
		case key == "until":
			if until, err = words.ParseTime(value, now); err != nil {
				return err
			}
		case o.Only == PruneCache: // which has no labels
			return words.Invalid("invalid filter '%s'", key)
		}
		rest = append(rest, f)
	}
	o.until, o.chosen = 0, nil
	if !until.IsZero() {
		o.until = max(now.Sub(until), 1)
	}
	if len(rest) > 0 {
		o.chosen, err = pruneFilter(rest, now)
	}
	return err
}

// prunedImages are the images that the options choose of those in the store, each once for every name.
func (h *Home) prunedImages(ctx context.Context, o *PruneOptions) ([]image.Named, error) {
	all, err := h.Layout.List(ctx)
	if err != nil || o.chosen == nil && o.All {
		return all, err
	}
	hasName := map[digest.Digest]bool{}
	for _, n := range all {
		hasName[n.Descriptor.Digest] = hasName[n.Descriptor.Digest] || n.Reference != (image.Reference{})
	}
	return slices.DeleteFunc(all, func(n image.Named) bool {
		if hasName[n.Descriptor.Digest] && !o.All || o.chosen == nil {
			return true
		}
		img, err := h.Layout.AnyImage(ctx, n.Descriptor)
		if err != nil {
			return true // nobody knows what it is
		}
		i := ContainerInfo{Labels: img.Config.Config.Labels}
		if img.Config.Created != nil {
			i.Created = *img.Config.Created
		}
		return !o.chosen(&i)
	}), nil
}

// dropImages removes images that the options choose and that no running process uses, with all their names.
func (h *Home) dropImages(ctx context.Context, o *PruneOptions, r *PruneReport) (err error) {
	lock, err := h.lockStore(ctx, o.Events) // nobody takes an image, and gives it another name, meanwhile
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	leases, err := h.Layout.Leases() // before all that a process which ends meanwhile may leave
	if err != nil {
		return err
	}
	named, err := h.prunedImages(ctx, o)
	if err != nil {
		return err
	}
	users, err := h.imageUsers()
	if err != nil {
		return err
	}
	var gone []digest.Digest
	for _, n := range named {
		if user := h.userOf(ctx, users, n); user != nil {
			r.Left = append(r.Left, fmt.Sprintf("image %s: in use by container %s", nameOrDigest(n), user.Name))
			continue
		}
		i := slices.IndexFunc(leases, func(l image.Lease) bool {
			return slices.ContainsFunc(l.Held, func(d ocispec.Descriptor) bool { return d.Digest == n.Descriptor.Digest })
		})
		if i >= 0 {
			r.Left = append(r.Left, fmt.Sprintf("image %s: in use by %s", nameOrDigest(n), leases[i].Owner))
			continue
		}
		gone = append(gone, n.Descriptor.Digest)
		r.Removed = append(r.Removed, "image "+nameOrDigest(n))
		r.image(n)
	}
	if err := h.Layout.Remove(ctx, gone...); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
