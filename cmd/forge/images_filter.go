package main

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/image"
)

// imageFilters are conditions that all have to hold; of references one.
type imageFilters struct {
	all        []func(forge.ImageInfo) bool
	references []string
}

func (f *imageFilters) keep(info forge.ImageInfo) bool {
	for _, holds := range f.all {
		if !holds(info) {
			return false
		}
	}
	for _, pattern := range f.references {
		if matchesReference(pattern, info.Name) {
			return true
		}
	}
	return len(f.references) == 0
}

// filters reads --filter as docker does.
func (c *imagesCmd) filters(ctx context.Context, h *forge.Home) (*imageFilters, error) {
	f := &imageFilters{}
	for _, text := range c.Filter {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, &usageError{1, fmt.Errorf("--filter %q: must be KEY=VALUE", text)}
		}
		switch key {
		case "dangling":
			want, err := strconv.ParseBool(value)
			if err != nil {
				return nil, &usageError{1, fmt.Errorf("--filter %q: must be true or false", text)}
			}
			f.all = append(f.all, func(i forge.ImageInfo) bool { return (i.Name == image.Reference{}) == want })
		case "label":
			name, want, hasValue := strings.Cut(value, "=")
			f.all = append(f.all, func(i forge.ImageInfo) bool {
				got, ok := i.Labels[name]
				return ok && (!hasValue || got == want)
			})
		case "reference":
			if _, err := path.Match(value, ""); err != nil {
				return nil, &usageError{1, fmt.Errorf("--filter %q: %w", text, err)}
			}
			f.references = append(f.references, value)
		case "before", "since":
			img, err := h.Image(ctx, value, nil)
			if err != nil {
				return nil, err
			}
			if img.Config.Created == nil {
				return nil, fmt.Errorf("--filter %q: the image does not say when it was made", text)
			}
			at, before := *img.Config.Created, key == "before"
			f.all = append(f.all, func(i forge.ImageInfo) bool {
				return before && i.Created.Before(at) || !before && i.Created.After(at)
			})
		default:
			return nil, &usageError{1, fmt.Errorf("--filter %q: must be dangling, label, reference, before or since", text)}
		}
	}
	return f, nil
}

// matchesReference compares a pattern with a familiar name, with and without its tag.
func matchesReference(pattern string, ref image.Reference) bool {
	if ref == (image.Reference{}) {
		return false
	}
	full := ref.Familiar()
	for _, name := range []string{full, strings.TrimSuffix(full, ":"+ref.Tag)} {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}
