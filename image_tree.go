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
	groups, users, err := h.imageGroups(ctx, o)
	errs := []error{err}
	for _, infos := range groups {
		b := &ImageBranch{Names: namesOf(infos)}
		b.ID = infos[0].ID
		errs = append(errs, h.grow(ctx, b, infos[0].descriptor, users))
		list = append(list, b)
	}
	return list, errors.Join(errs...)
}

// imageGroups lists images as Images does, those that are one under several names together, and says who uses images. Records that cannot be
// read are left out and reported together with the rest.
func (h *Home) imageGroups(ctx context.Context, o ImagesOptions) (groups [][]ImageInfo, users imageUsers, err error) {
	infos, err := h.Images(ctx, o)
	if err != nil && infos == nil {
		return nil, nil, err
	}
	users, usersErr := h.imageUsers()
	if usersErr != nil {
		return nil, nil, usersErr
	}
	at := map[digest.Digest]int{}
	for _, info := range infos {
		i, known := at[info.descriptor.Digest]
		if !known {
			i = len(groups)
			at[info.descriptor.Digest], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], info)
	}
	return groups, users, err
}

// namesOf are the familiar names of an image: none, and not nil, if it has no name.
func namesOf(infos []ImageInfo) []string {
	list := []string{}
	for _, info := range infos {
		if name := info.name(); name != "" {
			list = append(list, name)
		}
	}
	return list
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
