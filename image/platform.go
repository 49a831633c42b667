package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SelectPlatform finds the manifest for platform p, nil being this machine's. Variants that p's machine can run are
// taken too, the best first.
func SelectPlatform(x ocispec.Index, p *ocispec.Platform) (ocispec.Descriptor, error) {
	want := platforms.DefaultSpec()
	if p != nil {
		want = *p
	}
	match := platforms.Only(want)
	best := -1
	for i, d := range x.Manifests {
		if !isManifest(d.MediaType) && !IsIndex(d.MediaType) && d.MediaType != "" || isAttestation(d) {
			continue
		}
		if d.Platform == nil { // an index of one image often does without
			if best < 0 && len(x.Manifests) == 1 {
				best = i
			}
			continue
		}
		if match.Match(*d.Platform) && (best < 0 || match.Less(*d.Platform, *x.Manifests[best].Platform)) {
			best = i
		}
	}
	if best < 0 {
		return ocispec.Descriptor{}, &PlatformError{Want: want, Have: platformsOf(x)}
	}
	return x.Manifests[best], nil
}

// A PlatformError means that an index names no image for a platform.
type PlatformError struct {
	Want ocispec.Platform
	Have []string // platforms that it names images for, each once
}

func (e *PlatformError) Error() string {
	const most = 30 // of the platforms that are told
	have, more := e.Have, ""
	if n := len(have) - most; n > 0 {
		have, more = have[:most], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("has no image for %s, only for %s%s", platforms.FormatAll(e.Want), strings.Join(have, ", "), more)
}

// AnyImage is [Layout.Image] for this machine's platform or, of an index that has no such image here, the first of its
// images that is here.
func (l *Layout) AnyImage(ctx context.Context, d ocispec.Descriptor) (*Image, error) {
	img, err := l.Image(ctx, d, nil)
	_, foreign := errors.AsType[*PlatformError](err)
	if !foreign && !errors.Is(err, fs.ErrNotExist) {
		return img, err
	}
	doc, _, docErr := ReadDocument(ctx, l, d)
	if docErr != nil {
		return nil, err
	}
	for _, child := range doc.Images() {
		if here, childErr := l.Image(ctx, child, nil); !errors.Is(childErr, fs.ErrNotExist) {
			return here, childErr
		}
	}
	return nil, err
}

// ImageFor is the image for a platform that somebody asked for: for that alone, and not for what its machines can run, too. What is not an index
// has to be for it as well. *PlatformError if there is none for it here.
func (l *Layout) ImageFor(ctx context.Context, d ocispec.Descriptor, p ocispec.Platform) (*Image, error) {
	doc, _, err := ReadDocument(ctx, l, d)
	if err != nil {
		return nil, err
	}
	if !doc.IsIndex() {
		return l.imageIfFor(ctx, d, p)
	}
	var x ocispec.Index // of what is here
	match, images := platforms.OnlyStrict(p), doc.Images()
	for _, child := range images {
		here, err := l.Has(child)
		switch {
		case err != nil:
			return nil, err
		case !here:
			continue
		case child.Platform == nil && len(images) == 1: // an index of one image often does without
			return l.imageIfFor(ctx, child, p)
		case child.Platform != nil && match.Match(*child.Platform):
			return l.Image(ctx, child, nil)
		}
		x.Manifests = append(x.Manifests, child)
	}
	return nil, &PlatformError{Want: p, Have: platformsOf(x)}
}

// imageIfFor reads an image that has to be for a platform by its configuration.
func (l *Layout) imageIfFor(ctx context.Context, d ocispec.Descriptor, p ocispec.Platform) (*Image, error) {
	img, err := l.Image(ctx, d, nil)
	if err != nil {
		return nil, err
	}
	if !platforms.OnlyStrict(p).Match(img.Config.Platform) {
		return nil, &PlatformError{Want: p, Have: []string{platformName(img.Config.Platform)}}
	}
	return img, nil
}

// isAttestation reports whether d is one of BuildKit's attestation manifests, which lie among the images of an index.
func isAttestation(d ocispec.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest"
}

func platformsOf(x ocispec.Index) []string {
	var all []string
	told := map[string]bool{}
	for _, d := range x.Manifests {
		if d.Platform == nil || isAttestation(d) {
			continue
		}
		name := platformName(*d.Platform)
		if !told[name] {
			told[name] = true
			all = append(all, name)
		}
	}
	if all == nil {
		return []string{"unknown platforms"}
	}
	return all
}

// platformName is a platform as messages name it.
func platformName(p ocispec.Platform) string {
	name := platforms.FormatAll(p)
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) || len(name) > 100 {
		name = quoteClipped(name) // a stranger chose it
	}
	return name
}
