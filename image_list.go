package forge

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/image"
)

// ImagesOptions say which images to list. The zero value lists all.
type ImagesOptions struct {
	Name    string   // only this repository, or this name
	Filters []string // docker's: dangling=true|false, label=K[=V], reference=PATTERN, before=IMAGE or since=IMAGE
}

// An ImageInfo is a row of `forge images`: one name of one image.
type ImageInfo struct {
	Repository, Tag string // "" if the image has no name
	ID              digest.Digest
	Remote          digest.Digest // under which the repository has it; "" if it was neither pulled nor pushed
	Created         time.Time
	Size            int64 // bytes of its layers without compression
	Labels          map[string]string

	descriptor ocispec.Descriptor // of the manifest or the index
}

// name is the familiar name, "" if there is none.
func (i ImageInfo) name() string { return strings.TrimSuffix(i.Repository+":"+i.Tag, ":") }

// Images lists images, the newest first, and by name those of one age. Records that cannot be read are left out and reported together with the rest.
func (h *Home) Images(ctx context.Context, o ImagesOptions) (infos []ImageInfo, err error) {
	wanted, err := h.imageFilter(ctx, o)
	if err != nil {
		return nil, err
	}
	named, err := h.Layout.List(ctx)
	if err != nil {
		return nil, err
	}
	images, unreadable := h.imageInfos(ctx, named)
	var errs []error
	for _, n := range named {
		if err := unreadable[n.Descriptor.Digest]; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w; see forge system fsck", nameOrDigest(n), err))
			continue
		}
		info := images[n.Descriptor.Digest]
		if n.Reference != (image.Reference{}) {
			info.Repository, info.Tag = strings.TrimSuffix(n.Reference.Familiar(), ":"+n.Reference.Tag), n.Reference.Tag
		}
		if info.Remote = n.Remote; o.names(n.Reference) && wanted(info) {
			infos = append(infos, info)
		}
	}
	slices.SortStableFunc(infos, func(a, b ImageInfo) int { return b.Created.Compare(a.Created) }) // the list is by name
	return infos, errors.Join(errs...)
}

// imageInfos reads what names stand for, each image once and several at a time. The rest is why some cannot be read.
func (h *Home) imageInfos(ctx context.Context, named []image.Named) (infos map[digest.Digest]ImageInfo, unreadable map[digest.Digest]error) {
	infos, unreadable = map[digest.Digest]ImageInfo{}, map[digest.Digest]error{}
	var mu sync.Mutex // guards both
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	begun := map[digest.Digest]bool{}
	for _, n := range named {
		d := n.Descriptor
		if begun[d.Digest] {
			continue
		}
		begun[d.Digest] = true
		g.Go(func() error {
			info, err := h.imageInfo(ctx, d)
			mu.Lock()
			defer mu.Unlock()
			infos[d.Digest], unreadable[d.Digest] = info, err
			return nil
		})
	}
	_ = g.Wait() // there are no errors
	return infos, unreadable
}

func (h *Home) imageInfo(ctx context.Context, d ocispec.Descriptor) (ImageInfo, error) {
	img, err := h.Layout.AnyImage(ctx, d)
	if err != nil {
		return ImageInfo{}, err
	}
	info := ImageInfo{descriptor: d, ID: img.ID(), Labels: img.Config.Config.Labels, Size: h.imageSize(img)}
	if img.Config.Created != nil {
		info.Created = *img.Config.Created
	}
	return info, nil
}

// names reports whether an image of this name is to be listed; the zero value is none.
func (o ImagesOptions) names(name image.Reference) bool {
	if o.Name == "" {
		return true
	}
	ref, err := image.ParseReference(o.Name)
	if err != nil || name == (image.Reference{}) || ref.Domain != name.Domain || ref.Path != name.Path {
		return false
	}
	last := o.Name[strings.LastIndexByte(o.Name, '/')+1:]
	return !strings.Contains(last, ":") || ref.Tag == name.Tag
}

// imageFilter reads filters as docker does: all have to hold, of references one.
func (h *Home) imageFilter(ctx context.Context, o ImagesOptions) (func(ImageInfo) bool, error) {
	var all []func(ImageInfo) bool
	var patterns []string
	for _, text := range o.Filters {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, words.Invalid("--filter %q: must be KEY=VALUE", text)
		}
		var holds func(ImageInfo) bool
		switch key {
		case "dangling":
			want, err := strconv.ParseBool(value)
			if err != nil {
				return nil, words.Invalid("--filter %q: must be true or false", text)
			}
			holds = func(i ImageInfo) bool { return (i.Repository == "") == want }
		case "label":
			holds = func(i ImageInfo) bool { return hasLabel(i.Labels, value) }
		case "reference":
			if _, err := path.Match(value, ""); err != nil {
				return nil, fmt.Errorf("--filter %q: %w", text, err)
			}
			patterns = append(patterns, value)
			continue
		case "before", "since":
			at, err := h.createdAt(ctx, value)
			if err != nil {
				return nil, err
			}
			before := key == "before"
			holds = func(i ImageInfo) bool { return before && i.Created.Before(at) || !before && i.Created.After(at) }
		default:
			return nil, words.Invalid("--filter %q: must be dangling, label, reference, before or since", text)
		}
		all = append(all, holds)
	}
	if len(patterns) > 0 {
		all = append(all, func(i ImageInfo) bool { return i.matches(patterns) })
	}
	return func(i ImageInfo) bool {
		for _, holds := range all {
			if !holds(i) {
				return false
			}
		}
		return true
	}, nil
}

// createdAt is when an image was made.
func (h *Home) createdAt(ctx context.Context, name string) (time.Time, error) {
	i, err := h.Inspect(ctx, name, "")
	if err != nil {
		return time.Time{}, err
	}
	created := i.Image.Config.Created
	if created == nil {
		return time.Time{}, fmt.Errorf("image %s does not say when it was made", name)
	}
	return *created, nil
}

// matches reports whether one of the patterns is that of the name, with or without its tag.
func (i ImageInfo) matches(patterns []string) bool {
	for _, pattern := range patterns {
		for _, name := range []string{i.name(), i.Repository} {
			if ok, _ := path.Match(pattern, name); ok && name != "" {
				return true
			}
		}
	}
	return false
}
