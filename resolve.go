package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/source"
)

// A PullPolicy says when registries are asked for an image.
type PullPolicy string

// The policies, under docker's names. "" is PullMissing.
const (
	PullAlways  PullPolicy = "always"
	PullMissing PullPolicy = "missing"
	PullNever   PullPolicy = "never"
	PullLazy    PullPolicy = "lazy" // as PullMissing, but layers in eStargz are read in the registry while they are used
)

// A resolver answers what a FROM names: an image of the store, or of a registry. Of the latter only manifest and
// configuration are fetched until a step needs the layers. Safe for concurrent use.
type resolver struct {
	home    *Home
	pull    PullPolicy
	remote  RemoteOptions
	far     *farCache                       // nil if there is none
	cluster *cluster                        // nil if there is none
	pins    *source.Pins                    // what names are to stand for; nil is what they stand for now
	pushed  []pushedBlobs                   // in the order in which they were pushed
	away    []registry.Source               // of layers that an image which is pushed has there alone
	content func(store string) ContentStore // of the client; nil if layouts are directories of this machine

	*arrivals
}

// arrivals are images that a build has met and whose layers it may have to fetch. Targets of one build share them. Safe for concurrent use.
type arrivals struct {
	mu        sync.Mutex // guards all below
	deferred  []*deferredImage
	steps     map[digest.Digest]baseStep // by the digest of the image's manifest
	known     map[string]func() (*image.Image, error)
	elsewhere map[*image.Image]image.Reference // what was read of another repository than the name says
}

// readAs remembers under which name an image was read, if that is of another repository than the name that was asked for: a search of
// registries, or forge.lock, can lead to any.
func (a *arrivals) readAs(img *image.Image, asked, read image.Reference) {
	if asked.Name() == read.Name() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.elsewhere == nil {
		a.elsewhere = map[*image.Image]image.Reference{}
	}
	a.elsewhere[img] = read
}

// nameOf is the name under which an image was read that a build file, or a named context, calls name.
func (a *arrivals) nameOf(img *image.Image, name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ref, ok := a.elsewhere[img]; ok {
		return ref.Familiar()
	}
	return strings.TrimPrefix(name, imagePrefix)
}

// once asks a question about an image once in a build.
func (a *arrivals) once(question string, ask func() (*image.Image, error)) (*image.Image, error) {
	a.mu.Lock()
	if a.known == nil {
		a.known = map[string]func() (*image.Image, error){}
	}
	answer := a.known[question]
	if answer == nil {
		answer = sync.OnceValues(ask)
		a.known[question] = answer
	}
	a.mu.Unlock()
	return answer()
}

// resolve finds the image that name stands for, whatever is pinned. A name means what it means in the store, also for platforms whose
// image is not there yet. An image of another platform is taken only if there is no other: the name says exactly that one (a digest, an
// ID), it never was in a registry, or its registry has no other.
func (r *resolver) resolve(ctx context.Context, name string, p *ocispec.Platform, pull PullPolicy) (*image.Image, error) {
	if dir, ok := strings.CutPrefix(name, layoutPrefix); ok {
		return r.fromLayout(ctx, dir, p)
	}
	name = strings.TrimPrefix(name, imagePrefix)
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	if p == nil {
		p = new(thisPlatform())
	}
	if pull == PullAlways {
		return r.fromRegistry(ctx, name, *p)
	}
	n, only, err := r.lookUp(ctx, name, ref)
	if errors.Is(err, fs.ErrNotExist) {
		if r.pull == PullNever {
			return nil, &NotFoundError{Name: ref.Familiar(), Hint: r.off()}
		}
		return r.fromRegistry(ctx, name, *p)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	img, err := r.home.Layout.Image(ctx, n.Descriptor, p)
	switch {
	case err == nil && (only || runsOn(img, *p)) && n.Away:
		return r.fromAway(ctx, n, img, *p)
	case err == nil && (only || runsOn(img, *p)):
		return img, nil
	case err == nil:
		return r.instead(ctx, name, img, *p)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", ref.Familiar(), err)
	}
	return r.fromIndex(ctx, ref, n.Descriptor, *p)
}

// off says why registries are not asked.
func (r *resolver) off() string {
	if r.remote.Offline {
		return "--offline asks no registry"
	}
	return "pulling is off"
}

// lookUp finds what a name stands for in the store: a name, or an ID as docker lets a FROM use. only reports whether no
// registry can have another image for it.
func (r *resolver) lookUp(ctx context.Context, name string, ref image.Reference) (n image.Named, only bool, err error) {
	n, err = r.home.Layout.Lookup(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) && isID(name) {
		n, err = r.home.Layout.Take(ctx, name)
		return n, true, err
	}
	return n, ref.Digest != "" || n.Remote == "", err
}

// runsOn reports whether an image is for a platform, or says nothing of its own.
func runsOn(img *image.Image, p ocispec.Platform) bool {
	own := img.Config.Platform
	return own.OS == "" && own.Architecture == "" || platforms.Only(p).Match(platforms.Normalize(own))
}

// instead finds an image for p where the store has one of another platform under the name.
func (r *resolver) instead(ctx context.Context, name string, other *image.Image, p ocispec.Platform) (*image.Image, error) {
	if r.pull == PullNever {
		return nil, wrongPlatform(name, other, p, r.off())
	}
	img, err := r.fromRegistry(ctx, name, p)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", wrongPlatform(name, other, p, ""), err)
	}
	return img, nil
}

// wrongPlatform says that what the store has under a name is for another platform.
func wrongPlatform(name string, other *image.Image, want ocispec.Platform, hint string) *NotFoundError {
	has := "the store has it for " + platforms.FormatAll(platforms.Normalize(other.Config.Platform)) + " only"
	return &NotFoundError{
		Name: name + " for " + platforms.FormatAll(platforms.Normalize(want)), Hint: strings.TrimSuffix(has+"; "+hint, "; "),
	}
}

// isID reports whether a name could be an image's ID: at least 12 hex digits, with or without algorithm.
func isID(name string) bool {
	hex := strings.TrimPrefix(name, "sha256:")
	return len(hex) >= 12 && strings.Trim(hex, "0123456789abcdef") == ""
}
