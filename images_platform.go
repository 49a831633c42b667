package forge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/image"
)

// removePlatforms takes the images for some platforms out of an index, which stays with the others under all its names. Their layers go with
// the next prune. It takes all or, where one cannot go, none.
func (h *Home) removePlatforms(ctx context.Context, name string, o RemoveOptions) (done []Removal, err error) {
	wanted, err := parsePlatforms(o.Platforms)
	if err == nil && len(wanted) == 0 { // as a script gives it whose variable is empty
		err = words.Invalid("platform: is empty")
	}
	if err != nil {
		return nil, err
	}
	lock, err := h.lockStore(ctx, nil) // no lease begins meanwhile
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close(), h.Layout.EmptyTrash()) }()
	n, err := h.Layout.Find(ctx, name)
	if err != nil {
		return nil, notFound(name, err)
	}
	var gone []ocispec.Descriptor
	for _, p := range wanted {
		img, err := h.Layout.ImageFor(ctx, n.Descriptor, p)
		if err != nil {
			return nil, noPlatform(name, err)
		}
		if !slices.ContainsFunc(gone, sameDigest(img.Descriptor)) {
			gone = append(gone, img.Descriptor)
		}
	}
	left, err := h.platformsLeft(ctx, n, gone)
	if err != nil {
		return nil, err
	}
	if left == 0 {
		return nil, words.Refused("image %s is here for no other platform: leave out --platform to remove it", name)
	}
	for _, d := range gone {
		if err := h.mayGo(ctx, name, n, d); err != nil {
			return nil, err
		}
	}
	for _, d := range gone {
		if err := h.Layout.Trash(h.Layout.BlobPath(d.Digest)); err != nil {
			return done, err
		}
		done = append(done, Removal{Deleted: d.Digest})
	}
	return done, h.Layout.Reidentify(ctx, n.Descriptor.Digest)
}

func sameDigest(d ocispec.Descriptor) func(ocispec.Descriptor) bool {
	return func(other ocispec.Descriptor) bool { return other.Digest == d.Digest }
}

// platformsLeft is how many images of an index are here beside those that go.
func (h *Home) platformsLeft(ctx context.Context, n image.Named, gone []ocispec.Descriptor) (left int, err error) {
	doc, _, err := image.ReadDocument(ctx, h.Layout, n.Descriptor)
	if err != nil || !doc.IsIndex() {
		return 0, err
	}
	for _, child := range doc.Images() {
		if slices.ContainsFunc(gone, sameDigest(child)) {
			continue
		}
		here, err := h.Layout.Has(child)
		if err != nil {
			return 0, err
		}
		if here {
			left++
		}
	}
	return left, nil
}

// mayGo refuses to take an image out of an index that somebody else needs: a container, a running process, or another name.
func (h *Home) mayGo(ctx context.Context, name string, n image.Named, d ocispec.Descriptor) error {
	leases, err := h.Layout.Leases() // before containers and names, which a process that ends meanwhile may leave
	if err != nil {
		return err
	}
	for _, lease := range leases {
		if slices.ContainsFunc(lease.Held, sameDigest(d)) || slices.ContainsFunc(lease.Held, sameDigest(n.Descriptor)) {
			return words.Refused("image %s is in use by %s: try again when that has ended", name, lease.Owner)
		}
	}
	users, err := h.imageUsers()
	if err != nil {
		return err
	}
	for _, r := range users {
		if r.Manifest.Digest == d.Digest {
			return words.Refused("conflict: unable to delete %s (cannot be forced) - image is being used by container %s", d.Digest.Encoded()[:12], r.ID[:12])
		}
	}
	all, err := h.Layout.List(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Descriptor.Digest == n.Descriptor.Digest {
			continue
		}
		doc, _, err := image.ReadDocument(ctx, h.Layout, other.Descriptor)
		has := other.Descriptor.Digest == d.Digest || err == nil && doc.IsIndex() && slices.ContainsFunc(doc.Images(), sameDigest(d))
		if has {
			return words.Refused("image %s has the same image for %s: remove that first", nameOrDigest(other), platformOf(d))
		}
	}
	return nil
}

// platformOf is the platform that an index says of an image, or else its digest.
func platformOf(d ocispec.Descriptor) string {
	if d.Platform == nil {
		return fmt.Sprint(d.Digest)
	}
	return platforms.Format(*d.Platform)
}
