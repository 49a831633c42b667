package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/image"
)

func nameOrDigest(n image.Named) string {
	if n.Reference == (image.Reference{}) {
		return n.Descriptor.Digest.String()
	}
	return n.Reference.Familiar()
}

// imageSize is the size of an image's layers without compression, in bytes. It is the same however the image came here.
func (h *Home) imageSize(img *image.Image) (size int64) {
	for _, l := range img.Layers() {
		size += h.Layout.TarSize(l)
	}
	return size
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

// A NoPlatformError means that an image is there, but not for the platform that was asked for.
type NoPlatformError struct{ text string }

func (e *NoPlatformError) Error() string { return e.text }

// noPlatform says in docker's words that an image that was found by name is not for a platform.
func noPlatform(name string, err error) error {
	e, ok := errors.AsType[*image.PlatformError](err)
	if !ok {
		return err
	}
	return &NoPlatformError{text: fmt.Sprintf("image with reference %s was found but does not provide the specified platform (%s): it %v", name, platforms.FormatAll(e.Want), e)}
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
	if n, err = h.whole(ctx, n, nil, RemoteOptions{}); err != nil {
		return err
	}
	if err := h.Layout.Tag(ctx, ref, n.Descriptor); err != nil {
		return err
	}
	h.imageEvent("tag", n.Descriptor.Digest.String(), ref.Familiar())
	return nil
}

// RemoveOptions say what may be removed.
type RemoveOptions struct {
	Force     bool     // an image that has several names, with all of them
	Platforms []string // only the images for them, of an index that has others and keeps its names; nil is all
}

// A Removal is one thing that `forge rmi` did.
type Removal struct {
	Untagged string        `json:",omitempty"` // a familiar name
	Deleted  digest.Digest `json:",omitempty"` // an image's ID
}

// RemoveImage takes away a name, or, if what is not a name is given, the image with all its names, of which there may be
// only one unless o.Force. What others name meanwhile stays. An image that has lost its last name is gone; its bytes go with the next prune, or
// at once if nothing else needs them.
func (h *Home) RemoveImage(ctx context.Context, name string, o RemoveOptions) ([]Removal, error) {
	if o.Platforms != nil {
		return h.removePlatforms(ctx, name, o)
	}
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
	users, err := h.imageUsers()
	if err != nil {
		return nil, err
	}
	if user := h.userOf(ctx, users, n); user != nil && (len(names) < 2 || !byName(name, n)) {
		if err := o.inUse(name, n, user); err != nil {
			return nil, err
		}
	}
	switch {
	case byName(name, n):
		names = []image.Reference{n.Reference} // the image stays if it has others
	case len(names) > 1 && !o.Force:
		return nil, words.Refused("image %s has %d names: remove them one by one, or all with --force", name, len(names))
	}
	dropped, gone, err := h.Layout.Drop(ctx, n.Descriptor.Digest, names...)
	var done []Removal
	for _, ref := range dropped {
		h.imageEvent("untag", id.String(), ref.Familiar())
		done = append(done, Removal{Untagged: ref.Familiar()})
	}
	if gone {
		h.imageEvent("delete", id.String(), id.String())
		done = append(done, Removal{Deleted: id})
	}
	if err == nil && len(done) == 0 { // the name has moved meanwhile
		err = fs.ErrNotExist
	}
	return done, notFound(name, err)
}

// byName reports whether s found n by its name and not by a digest or prefix.
func byName(s string, n image.Named) bool {
	if n.Reference == (image.Reference{}) {
		return false
	}
	ref, err := image.ParseReference(s)
	return err == nil && ref == n.Reference && !strings.HasPrefix(s, "sha256:")
}

// An Inspection is an image and what the store knows of it.
type Inspection struct {
	Image   *image.Image
	Names   []image.Reference
	Remotes []image.Reference // repositories that have it, each with the digest under which it does
	Size    int64             // bytes of its layers without compression
	Tagged  time.Time         // when it got the last of its names, or into the store; zero for one of a registry
}

// Inspect finds an image by name, digest, ID or unique prefix of one, and all the names that it has. Of an index it is the
// image for a platform; "" is this machine's or, without one, any that the store has.
func (h *Home) Inspect(ctx context.Context, name, platform string) (i Inspection, err error) {
	p, err := parsePlatform(platform)
	if err != nil {
		return i, err
	}
	n, err := h.Layout.Find(ctx, name)
	if err != nil {
		return i, notFound(name, err)
	}
	if p == nil {
		i.Image, err = h.Layout.AnyImage(ctx, n.Descriptor)
	} else {
		i.Image, err = h.Layout.ImageFor(ctx, n.Descriptor, *p)
	}
	if err != nil {
		return i, noPlatform(name, err)
	}
	i.Size = h.imageSize(i.Image)
	all, err := h.Layout.List(ctx)
	for _, other := range all {
		if other.Descriptor.Digest != n.Descriptor.Digest {
			continue
		}
		if other.Given.After(i.Tagged) {
			i.Tagged = other.Given
		}
		if other.Reference == (image.Reference{}) {
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

// A HistoryEntry is a step of an image's history, and the size of its layer without compression, in bytes.
type HistoryEntry struct {
	ocispec.History
	Size int64
}

// History finds an image, as Inspect does, and how it was made, the latest step first.
func (h *Home) History(ctx context.Context, name, platform string) (id digest.Digest, entries []HistoryEntry, err error) {
	i, err := h.Inspect(ctx, name, platform)
	if err != nil {
		return "", nil, err
	}
	layers := i.Image.Layers()
	for _, step := range i.Image.Config.History {
		e := HistoryEntry{History: step}
		if !step.EmptyLayer && len(layers) > 0 {
			e.Size, layers = h.Layout.TarSize(layers[0]), layers[1:]
		}
		entries = append(entries, e)
	}
	slices.Reverse(entries)
	return i.Image.ID(), entries, nil
}
