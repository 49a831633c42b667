package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// An ImageInfo is a row of `forge images`: one name of one image.
type ImageInfo struct {
	Name    image.Reference // zero if the image has none
	ID      digest.Digest
	Digest  digest.Digest // of the manifest or index
	Remote  digest.Digest // under which the name's repository has it; "" if it was neither pulled nor pushed
	Created time.Time
	Size    int64 // bytes of its layers without compression
	Labels  map[string]string
}

// Images lists the images, by name. Records that cannot be read are left out and reported together with the rest.
func (h *Home) Images(ctx context.Context) ([]ImageInfo, error) {
	named, err := h.Layout.List(ctx)
	if err != nil {
		return nil, err
	}
	var (
		infos []ImageInfo
		errs  []error
		seen  = map[digest.Digest]ImageInfo{}
	)
	for _, n := range named {
		info, ok := seen[n.Descriptor.Digest]
		if !ok {
			if info, err = h.imageInfo(ctx, n.Descriptor); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w; see forge system fsck", nameOrDigest(n), err))
				continue
			}
			seen[n.Descriptor.Digest] = info
		}
		info.Name, info.Remote = n.Reference, n.Remote
		infos = append(infos, info)
	}
	return infos, errors.Join(errs...)
}

func nameOrDigest(n image.Named) string {
	if n.Reference == (image.Reference{}) {
		return n.Descriptor.Digest.String()
	}
	return n.Reference.Familiar()
}

func (h *Home) imageInfo(ctx context.Context, d ocispec.Descriptor) (ImageInfo, error) {
	img, err := h.Layout.AnyImage(ctx, d)
	if err != nil {
		return ImageInfo{}, err
	}
	info := ImageInfo{ID: img.ID(), Digest: d.Digest, Labels: img.Config.Config.Labels}
	if img.Config.Created != nil {
		info.Created = *img.Config.Created
	}
	info.Size = h.imageSize(img)
	return info, nil
}

// imageSize is the size of an image's layers without compression, in bytes. It is the same however the image came here.
func (h *Home) imageSize(img *image.Image) (size int64) {
	for _, n := range h.LayerSizes(img) {
		size += n
	}
	return size
}

// LayerSizes are the sizes of an image's layers without compression, in bytes, lowest first.
func (h *Home) LayerSizes(img *image.Image) []int64 {
	layers := img.Layers()
	sizes := make([]int64, len(layers))
	for i, l := range layers {
		sizes[i] = h.Layout.TarSize(l)
	}
	return sizes
}

// Image finds an image by name, digest, ID or unique prefix of one. For an index it is the one for platform p; nil is
// this machine's or, without one, any that is here.
func (h *Home) Image(ctx context.Context, name string, p *ocispec.Platform) (*image.Image, error) {
	n, err := h.Layout.Take(ctx, name)
	if err != nil {
		return nil, notFound(name, err)
	}
	return h.image(ctx, n.Descriptor, p)
}

func (h *Home) image(ctx context.Context, d ocispec.Descriptor, p *ocispec.Platform) (*image.Image, error) {
	if p == nil {
		return h.Layout.AnyImage(ctx, d)
	}
	return h.Layout.Image(ctx, d, p)
}

// A NotFoundError means that an image is not in the store. It is fs.ErrNotExist.
type NotFoundError struct {
	Name string
	Hint string // what to do; may be empty
}

func (e *NotFoundError) Error() string {
	return strings.TrimSuffix("no such image: "+e.Name+"; "+e.Hint, "; ")
}

// Is makes it fs.ErrNotExist.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// notFound says of a missing image what docker users know, and what to do.
func notFound(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{Name: name, Hint: "see forge images"}
	}
	return err
}

// Tag gives the image found by src another name. A name in use moves; what it named before stays, nameless.
func (h *Home) Tag(ctx context.Context, src, dst string) error {
	ref, err := image.ParseReference(dst)
	if err != nil {
		return err
	}
	if ref.Digest != "" {
		return fmt.Errorf("%s: a tag cannot hold a digest", dst)
	}
	n, err := h.Layout.Take(ctx, src)
	if err != nil {
		return notFound(src, err)
	}
	return h.Layout.Tag(ctx, ref, n.Descriptor)
}

// RemoveOptions say what may be removed.
type RemoveOptions struct {
	Force bool // an image that has several names, with all of them
}

// A Removal is one thing that `forge rmi` did.
type Removal struct {
	Untagged image.Reference
	Deleted  digest.Digest
}

// RemoveImage takes away a name, or, if what is not a name is given, the image with all its names, of which there may be
// only one unless o.Force. An image that has lost its last name is gone; its bytes go with the next prune, or at once if
// nothing else needs them.
func (h *Home) RemoveImage(ctx context.Context, name string, o RemoveOptions) ([]Removal, error) {
	n, err := h.Layout.Find(ctx, name)
	if err != nil {
		return nil, notFound(name, err)
	}
	all, err := h.Layout.List(ctx)
	if err != nil {
		return nil, err
	}
	var names []image.Reference
	for _, other := range all {
		if other.Descriptor.Digest == n.Descriptor.Digest && other.Reference != (image.Reference{}) {
			names = append(names, other.Reference)
		}
	}
	id := n.Descriptor.Digest
	if img, err := h.Layout.AnyImage(ctx, n.Descriptor); err == nil {
		id = img.ID()
	}
	if byName(name, n) && len(names) > 1 {
		return []Removal{{Untagged: n.Reference}}, h.Layout.Untag(ctx, n.Reference)
	}
	if len(names) > 1 && !o.Force {
		return nil, fmt.Errorf("image %s has %d names: remove them one by one, or all with --force", name, len(names))
	}
	var done []Removal
	for _, ref := range names {
		if err := h.Layout.Untag(ctx, ref); err != nil {
			return done, err
		}
		done = append(done, Removal{Untagged: ref})
	}
	if err := h.Layout.Remove(ctx, n.Descriptor.Digest); err != nil {
		return done, err
	}
	return append(done, Removal{Deleted: id}), nil
}

// byName tells whether s found n by its name and not by a digest or prefix.
func byName(s string, n image.Named) bool {
	if n.Reference == (image.Reference{}) {
		return false
	}
	ref, err := image.ParseReference(s)
	return err == nil && ref == n.Reference && !strings.HasPrefix(s, "sha256:")
}

// An Inspection is an image and what is known of it here.
type Inspection struct {
	Image   *image.Image
	Names   []image.Reference
	Remotes []image.Reference // repositories that have it, each with the digest under which it does
	Size    int64             // bytes of its layers without compression
}

// Inspect is Image with all the names that the image has.
func (h *Home) Inspect(ctx context.Context, name string, p *ocispec.Platform) (i Inspection, err error) {
	n, err := h.Layout.Find(ctx, name)
	if err != nil {
		return i, notFound(name, err)
	}
	if i.Image, err = h.image(ctx, n.Descriptor, p); err != nil {
		return i, err
	}
	i.Size = h.imageSize(i.Image)
	all, err := h.Layout.List(ctx)
	for _, other := range all {
		if other.Descriptor.Digest != n.Descriptor.Digest || other.Reference == (image.Reference{}) {
			continue
		}
		i.Names = append(i.Names, other.Reference)
		if other.Remote != "" {
			i.Remotes = append(i.Remotes, image.Reference{
				Domain: other.Reference.Domain, Path: other.Reference.Path, Digest: other.Remote,
			})
		}
	}
	return i, err
}
