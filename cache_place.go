package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/forge-build/forge/cache/gha"
	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/cache/s3"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry"
)

// openPlace opens what a specification names. A place that is to be written is made if it is not there; one that is only read, and is
// not there, is an error that is fs.ErrNotExist.
func (h *Home) openPlace(ctx context.Context, client *registry.Client, c CacheSpec, o ServerOptions) (*remote.Place, error) {
	switch c.Type {
	case "registry":
		return repositoryPlace(client, c.Attrs["ref"])
	case "local":
		return directoryPlace(c)
	case "s3":
		return h.bucketPlace(c)
	case "gha":
		return h.actionsPlace(c)
	case "reapi":
		return h.serverPlace(c.Attrs["url"], o)
	}
	return nil, fmt.Errorf("cache of type %s: %w", c.Type, errors.ErrUnsupported)
}

// repositoryPlace is the repository of a name.
func repositoryPlace(client *registry.Client, name string) (*remote.Place, error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	repo, err := client.Connect(ref)
	if err != nil {
		return nil, err
	}
	return &remote.Place{
		Name: repo.Name(), Read: repo.Whole(), Write: repo.Writable(),
		Repository: image.Reference{Domain: ref.Domain, Path: ref.Path}, Tags: repo,
	}, nil
}

// directoryPlace is an OCI layout: dest= is written to, src= is read. It may be carried elsewhere, and is what it was.
func directoryPlace(c CacheSpec) (*remote.Place, error) {
	if dest := c.Attrs["dest"]; dest != "" {
		dir, err := image.CreateDir(dest)
		return &remote.Place{Name: "local:" + dest, Identity: "local", Read: dir, Write: dir, Tags: dir}, err
	}
	dir, err := image.OpenDir(c.Attrs["src"])
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", c.Attrs["src"], fs.ErrNotExist)
	}
	return &remote.Place{Name: "local:" + c.Attrs["src"], Identity: "local", Read: dir, Tags: dir}, err
}

// bucketPlace is a bucket of S3.
func (h *Home) bucketPlace(c CacheSpec) (*remote.Place, error) {
	o, err := s3.ParseOptions(c.Attrs, os.Getenv)
	if err != nil {
		return nil, err
	}
	o.Limits = cacheLimits()
	bucket, err := s3.Open(o)
	if err != nil {
		return nil, err
	}
	store := objects.New(bucket, h.staging)
	return &remote.Place{Name: bucket.Name(), Read: store, Write: store, Tags: bucket}, nil
}

// actionsPlace is the cache of a repository at GitHub, whose tags only its other API can list.
func (h *Home) actionsPlace(c CacheSpec) (*remote.Place, error) {
	o, err := gha.ParseOptions(c.Attrs, os.Getenv)
	if err != nil {
		return nil, err
	}
	if limits := cacheLimits(); o.Limits == (web.Limits{}) {
		o.Limits = limits
	}
	bucket, err := gha.Open(o)
	if err != nil {
		return nil, err
	}
	store := objects.New(bucket, h.staging)
	return &remote.Place{Name: bucket.Name(), Read: store, Write: store}, nil
}
