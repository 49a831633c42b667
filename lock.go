package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/source"
)

// A LockMode says what becomes of forge.lock, the file beside the build file that says what tags of images, URLs and refs of repositories
// stand for. It is used where it is, in every mode.
type LockMode string

// The modes.
const (
	LockUsed   LockMode = ""       // the file is not written
	LockKept   LockMode = "keep"   // what it does not say yet is added
	LockUpdate LockMode = "update" // what it says of what the build reads is found out anew
)

// maxLock bounds the file, in bytes.
const maxLock = 4 << 20

// pinsPath is where the forge.lock of a build lies or would lie; "" if the build file is no file of this machine.
func pinsPath(src *source.Source) string {
	file := src.BuildFile()
	if file == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(file), source.PinsFile)
}

// openPins reads the forge.lock of a build; nil if there is none and none is to be written.
func openPins(src *source.Source, mode LockMode) (*source.Pins, error) {
	path := pinsPath(src)
	if path == "" {
		if mode != LockUsed {
			return nil, fmt.Errorf("%s lies beside the build file, and that is no file of this machine", source.PinsFile)
		}
		return nil, nil
	}
	f, err := durable.OpenRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		if mode == LockUsed {
			return nil, nil
		}
		return &source.Pins{}, nil
	}
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxLock+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(raw) > maxLock {
		return nil, fmt.Errorf("%s: has more than %d bytes", path, maxLock)
	}
	pins, err := source.ParsePins(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; --update with a new file writes it anew", path, err)
	}
	if mode == LockUpdate {
		pins.Update()
	}
	return pins, nil
}

// writePins writes the forge.lock of a build that was asked to.
func (s *sources) writePins(mode LockMode) error {
	if mode == LockUsed {
		return nil
	}
	raw, changed, err := s.pins.Bytes()
	if err != nil || !changed {
		return err
	}
	return durable.WriteFile(pinsPath(s.Source), raw, 0o644)
}

// Resolve finds the image that name stands for, for platform p; see planner.Resolver. A name that is pinned is its digest's: that is asked
// for only if the store has it not.
func (r *resolver) Resolve(ctx context.Context, name string, p *ocispec.Platform) (*image.Image, error) {
	name = strings.TrimPrefix(name, imagePrefix)
	ref, err := image.ParseReference(name)
	if err != nil || ref.Digest != "" { // another kind of name, or all said
		return r.resolveOnce(ctx, name, p, r.pull)
	}
	to := r.pins.Image(ref.String())
	if to == "" {
		img, err := r.resolveOnce(ctx, name, p, r.anew(ctx, ref))
		if err == nil {
			r.pin(ctx, ref, img)
		}
		return img, err
	}
	pull := r.pull
	if pull == PullAlways { // what is asked for is known
		pull = PullMissing
	}
	pinned, _ := image.ParseReference(to) // it was parsed before
	if n, err := r.home.Layout.Lookup(ctx, ref); err == nil && (n.Remote == pinned.Digest || n.Descriptor.Digest == pinned.Digest) {
		return r.resolve(ctx, name, p, pull)
	}
	img, err := r.resolve(ctx, pinned.String(), p, pull)
	if err != nil {
		return nil, fmt.Errorf("%s, as %s has it: %w", ref.Familiar(), source.PinsFile, err)
	}
	r.readAs(img, ref, pinned)
	return img, nil
}

// resolveOnce asks what a name stands for, and once for all targets of a build that ask the same.
func (r *resolver) resolveOnce(ctx context.Context, name string, p *ocispec.Platform, pull PullPolicy) (*image.Image, error) {
	platform := ""
	if p != nil {
		platform = platforms.FormatAll(*p)
	}
	return r.once(string(pull)+" "+platform+" "+name, func() (*image.Image, error) { return r.resolve(ctx, name, p, pull) })
}

// anew is when registries are asked for an image whose pin does not count any more: also if the store has what one gave for the name
// before, unless nobody is to be asked.
func (r *resolver) anew(ctx context.Context, ref image.Reference) PullPolicy {
	if r.pull == PullNever || !r.pins.Updating() {
		return r.pull
	}
	if n, err := r.home.Layout.Lookup(ctx, ref); err != nil || n.Remote == "" {
		return r.pull
	}
	return PullAlways
}

// pin remembers which image of which registry a name stands for. One that comes from no registry cannot be pinned.
func (r *resolver) pin(ctx context.Context, ref image.Reference, img *image.Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.deferred {
		if d.image == img && d.name != (image.Reference{}) {
			r.pins.SetImage(ref.String(), d.name.Name()+"@"+d.root.Digest.String())
			return
		}
	}
	if n, err := r.home.Layout.Lookup(ctx, ref); err == nil && n.Remote != "" {
		r.pins.SetImage(ref.String(), ref.Name()+"@"+n.Remote.String())
	}
}

// checkOffline refuses what cannot be done without asking anybody.
func (o *BuildOptions) checkOffline() error {
	if !o.Offline {
		return nil
	}
	for _, out := range o.Outputs {
		if out.Type == "registry" || out.Attrs["push"] == "true" {
			return errors.New("--offline asks no registry, and the image is to be pushed to one")
		}
	}
	if o.Pull == PullAlways {
		return errors.New("--pull asks registries, and --offline nobody")
	}
	return nil
}
