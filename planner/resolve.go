package planner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// scratch is the name of no image: the empty file system.
const scratch = "scratch"

// contextNames maps how a context is looked up to its key: a name as an image's short form, with a platform or without.
func contextNames(contexts map[string]Context) map[string]string {
	names := make(map[string]string, len(contexts))
	for key := range contexts {
		name, platform, found := strings.Cut(key, "::")
		if found {
			if parsed, err := platforms.Parse(platform); err == nil {
				platform = platforms.FormatAll(platforms.Normalize(parsed))
			}
			names[shortName(name)+"::"+platform] = key
			continue
		}
		names[shortName(name)] = key
	}
	return names
}

// shortName is a name as people type it, without ":latest": alpine for docker.io/library/alpine:latest.
func shortName(name string) string {
	ref, err := image.ParseReference(name)
	if err != nil {
		return name
	}
	return strings.TrimSuffix(ref.Familiar(), ":latest")
}

// context finds what the command line says a name stands for; nil if nothing.
func (p *planner) context(name string, platform ocispec.Platform) *namedContext {
	if len(p.contexts) == 0 || strings.EqualFold(name, scratch) || strings.EqualFold(name, "context") {
		return nil
	}
	name = shortName(name)
	key, ok := p.contexts[name+"::"+platforms.FormatAll(platforms.Normalize(platform))]
	if !ok {
		if key, ok = p.contexts[name]; !ok {
			return nil
		}
	}
	return &namedContext{Context: p.opt.Contexts[key], name: key}
}

// imageName is the image that a stage begins with, "" if it begins with none.
func (s *stage) imageName() string {
	switch {
	case s.context != nil:
		return s.context.Image
	case s.parent != nil || s.base == scratch:
		return ""
	}
	return s.base
}

// checkName reports whether what a stage begins with can be an image's name at all. A context's is between the command
// line and the Resolver.
func (s *stage) checkName() error {
	if s.context != nil || s.imageName() == "" {
		return nil
	}
	_, err := image.ParseReference(s.base)
	return err
}

// A request is an image to resolve, for every stage that begins with it.
type request struct {
	ref      string
	platform ocispec.Platform
	stages   []*stage
	image    *image.Image
	err      error
}

// resolve finds the images of stages, all at once. The first error in the file's order is returned, whichever came
// first.
func (p *planner) resolve(ctx context.Context, stages []*stage) error {
	var requests []*request
	for _, s := range stages {
		if s.done >= resolved {
			continue
		}
		s.done = resolved
		ref := s.imageName()
		if ref == "" {
			continue
		}
		platform := p.platformOf(s)
		i := slices.IndexFunc(requests, func(r *request) bool {
			return r.ref == ref && platforms.FormatAll(r.platform) == platforms.FormatAll(platform)
		})
		if i < 0 {
			i = len(requests)
			requests = append(requests, &request{ref: ref, platform: platform})
		}
		requests[i].stages = append(requests[i].stages, s)
	}
	var wait sync.WaitGroup
	for _, r := range requests[min(1, len(requests)):] {
		wait.Go(func() { p.ask(ctx, r) })
	}
	if len(requests) > 0 {
		p.ask(ctx, requests[0]) // most files have but one image, and it needs no goroutine
	}
	wait.Wait()
	for _, r := range requests {
		if r.err != nil {
			return p.unresolved(r)
		}
		for _, s := range r.stages {
			if err := p.resolveStage(s, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *planner) ask(ctx context.Context, r *request) {
	if r.err = r.stages[0].checkName(); r.err != nil {
		return
	}
	if p.opt.Resolver == nil {
		r.err = fmt.Errorf("%s: %w", r.ref, fs.ErrNotExist)
		return
	}
	r.image, r.err = p.opt.Resolver.Resolve(ctx, r.ref, &r.platform)
	if r.err == nil && r.image == nil {
		r.err = fmt.Errorf("%s: %w", r.ref, fs.ErrNotExist)
	}
}

// unresolved says that there is no such image, and which name is near.
func (p *planner) unresolved(r *request) error {
	at := r.stages[0].decl.Span
	if errors.Is(r.err, context.Canceled) || errors.Is(r.err, context.DeadlineExceeded) {
		return r.err
	}
	names := p.stageNames()
	for _, common := range [...]string{"alpine", "busybox", "centos", "debian", "fedora", "golang", "ubuntu"} {
		names = append(names, common, common+":latest")
	}
	return p.file.ErrorAt(at, r.err).Suggest(r.ref, names)
}

// resolveStage gives a stage its image.
func (p *planner) resolveStage(s *stage, r *request) error {
	s.image = r.image
	actual := r.image.Config.Platform
	if actual.OS != "" && actual.OS != "linux" {
		return p.fail(s.decl.Span, fmt.Errorf("%s: an image for %s; only linux images are built here", r.ref, actual.OS))
	}
	if s.context == nil && (r.platform.OS != actual.OS || r.platform.Architecture != actual.Architecture) {
		p.rules.lint.Run(&linter.RuleInvalidBaseImagePlatform, s.decl.Location, linter.RuleInvalidBaseImagePlatform.Format(
			s.base, platforms.FormatAll(platforms.Normalize(r.platform)), platforms.FormatAll(platforms.Normalize(actual))))
	}
	return nil
}
