package forge

import (
	"context"
	"errors"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// An ImageBranch is an image with all its names, and, of an index, the images that it names.
type ImageBranch struct {
	ImageSize
	Names     []string // familiar names; none if it has no name
	Platforms []ImageSize
}

// ImageSize is what an image takes.
type ImageSize struct {
	Platform string
	ID       digest.Digest // of an index or one of its images, the digest of the manifest
	Disk     int64         // bytes of its layers without compression; 0 if it is not here
	Content  int64         // bytes of what is here, as a registry would have it
	Used     bool          // by a container
}

// ImageTree lists images as Images does, each once.
func (h *Home) ImageTree(ctx context.Context, o ImagesOptions) (list []*ImageBranch, err error) {
	infos, err := h.Images(ctx, o)
	if err != nil && infos == nil {
		return nil, err
	}
	users, usersErr := h.imageUsers()
	if usersErr != nil {
		return nil, usersErr
	}
	branches := map[digest.Digest]*ImageBranch{}
	errs := []error{err}
	for _, info := range infos {
		b := branches[info.descriptor.Digest]
		if b == nil {
			b = &ImageBranch{}
			b.ID = info.ID
			errs = append(errs, h.grow(ctx, b, info.descriptor, users))
			branches[info.descriptor.Digest], list = b, append(list, b)
		}
		if name := info.name(); name != "" {
			b.Names = append(b.Names, name)
		}
	}
	return list, errors.Join(errs...)
}

// grow finds out what an image, or an index and its images, take.
func (h *Home) grow(ctx context.Context, b *ImageBranch, d ocispec.Descriptor, users imageUsers) error {
	doc, raw, err := image.ReadDocument(ctx, h.Layout, d)
	if err != nil {
		return err
	}
	if !doc.IsIndex() {
		b.ImageSize = h.sizeOf(ctx, d, users)
		return nil
	}
	b.ID, b.Content = d.Digest, int64(len(raw))
	for _, child := range doc.Images() {
		one := h.sizeOf(ctx, child, users)
		one.ID, one.Platform = child.Digest, "unknown"
		if child.Platform != nil {
			one.Platform = platforms.FormatAll(*child.Platform)
		}
		b.Platforms = append(b.Platforms, one)
		b.Disk, b.Content, b.Used = b.Disk+one.Disk, b.Content+one.Content, b.Used || one.Used
	}
	return nil
}

// sizeOf is what one image takes: nothing if it is not here.
func (h *Home) sizeOf(ctx context.Context, d ocispec.Descriptor, users imageUsers) (s ImageSize) {
	img, err := h.Layout.Image(ctx, d, nil)
	if err != nil {
		return s
	}
	s.ID, s.Disk, s.Content = img.ID(), h.imageSize(img), img.Descriptor.Size+img.Manifest.Config.Size
	for _, l := range img.Manifest.Layers {
		s.Content += l.Size
	}
	s.Used = slices.ContainsFunc(users, func(r *containerRecord) bool { return r.ImageID == img.ID() })
	return s
}
