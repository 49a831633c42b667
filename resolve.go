package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// A PullPolicy says when registries are asked for an image.
type PullPolicy string

// The policies, under docker's names. "" is PullMissing.
const (
	PullAlways  PullPolicy = "always"
	PullMissing PullPolicy = "missing"
	PullNever   PullPolicy = "never"
)

// A resolver answers what a FROM names: an image of the store, or of a registry. Of the latter only manifest and
// configuration are fetched until a step needs the layers. Safe for concurrent use.
type resolver struct {
	home   *Home
	pull   PullPolicy
	remote RemoteOptions
	far    farImages
}

// Resolve finds the image that ref names for a platform; see planner.Resolver.
func (r *resolver) Resolve(ctx context.Context, name string, p *ocispec.Platform) (*image.Image, error) {
	if dir, ok := strings.CutPrefix(name, "oci-layout://"); ok {
		return r.fromLayout(ctx, dir, p)
	}
	ref, err := image.ParseReference(strings.TrimPrefix(name, "docker-image://"))
	if err != nil {
		return nil, err
	}
	if r.pull != PullAlways {
		img, err := r.here(ctx, name, ref, p)
		if err == nil {
			return img, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if r.pull == PullNever {
			return nil, &NotFoundError{Name: ref.Familiar(), Hint: "pulling is off"}
		}
	}
	return r.fromRegistry(ctx, strings.TrimPrefix(name, "docker-image://"), p)
}

// here finds an image of the store by name, or by ID as docker lets a FROM do.
func (r *resolver) here(ctx context.Context, name string, ref image.Reference, p *ocispec.Platform) (*image.Image, error) {
	d, err := r.home.Layout.Resolve(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) && isID(name) {
		var n image.Named
		if n, err = r.home.Layout.Find(ctx, name); err == nil {
			d = n.Descriptor
		}
	}
	if err != nil {
		return nil, err
	}
	img, err := r.home.Layout.Image(ctx, d, p)
	if err != nil && p != nil {
		// One of another architecture is taken, as docker does: its configuration tells what it is.
		if single, err := r.home.Layout.Image(ctx, d, nil); err == nil && single.Descriptor.Digest == d.Digest {
			return single, nil
		}
	}
	return img, err
}

// isID tells whether a name could be an image's ID: at least 12 hex digits, with or without algorithm.
func isID(name string) bool {
	hex := strings.TrimPrefix(name, "sha256:")
	return len(hex) >= 12 && strings.Trim(hex, "0123456789abcdef") == ""
}
