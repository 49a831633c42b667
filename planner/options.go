package planner

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Options are what a command line says about a build; the zero value builds the last stage of a file that begins with
// FROM scratch, for this machine.
type Options struct {
	Target    string            // stage to build; "" is the last
	BuildArgs map[string]string // --build-arg, its values looked up; proxy variables come here too
	Labels    []string          // --label K=V: they come last and win

	Platform      ocispec.Platform // to build for; the zero value is BuildPlatform, and lets the base image decide
	BuildPlatform ocispec.Platform // to build on; the zero value is this machine's
	Resolver      Resolver         // nil knows no image
	Contexts      map[string]Context
	Ignore        []string // patterns of the main context's ignore file, for the lint rule about them

	NoCacheFilter []string // names of stages to build as if nothing were in the cache

	// ContextTime is asked for what SOURCE_DATE_EPOCH=context means. If it is nil, or gives nil, the variable is not set.
	ContextTime func(ctx context.Context) (*time.Time, error)

	NoCache bool              // build all of it as if nothing were in the cache
	Request func(op *Run) int // whose secrets, limits and hosts a RUN is given, as the worker knows them; nil is 0
	Trees   map[string]string // names of contexts, "" for the main one → what the executor knows them as; nil is the same names

	Network string // of every RUN that does not say: "default" (or ""), "none" or "host"
	Allow   Entitlements
}

// A Resolver finds images. It is asked for several at once, and once only for the same name and platform.
type Resolver interface {
	// Resolve finds the image that ref names, as the build file or a [Context] has it, for a platform. What it does not
	// have is an error that says so. Its errors name the image.
	Resolve(ctx context.Context, ref string, platform *ocispec.Platform) (*image.Image, error)
}

// A Context is what a name given with --build-context stands for, in place of a stage or an image of that name. At most
// one field is set; the zero Context is the empty file system.
type Context struct {
	Tree  bool   // files, which the executor knows as the context of the same name: a directory, archive or repository
	Image string // an image, in whatever form the Resolver takes
	Stage string // another stage of the same file
	Graph *Graph // what another plan makes, with all its steps
}
