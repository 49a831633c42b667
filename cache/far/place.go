package far

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/forge-build/forge/cache/cas"
	"github.com/forge-build/forge/cache/gha"
	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/cache/s3"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry"
)

// Limits are those of what only a cache is kept in: shorter than others, since there is always a way without it.
func Limits() web.Limits {
	return web.Limits{Headers: 10 * time.Second, Idle: 20 * time.Second, GiveUp: 20 * time.Second, Tries: 3}
}

// An Opener opens places.
type Opener struct {
	Registries *registry.Client
	Server     func(address string) (*reapi.Client, error)
	Staging    *image.Staging // of what is read
}

// Open opens what a specification names. A place that is to be written is made if it is not there; one that is only read, and is
// not there, is an error that is fs.ErrNotExist.
func (o *Opener) Open(c Spec) (*remote.Place, error) {
	switch c.Type {
	case "registry":
		return repository(o.Registries, c.Attrs["ref"])
	case "local":
		return directory(c)
	case "s3":
		return o.bucket(c)
	case "gha":
		return o.actions(c)
	case "reapi":
		client, err := o.Server(c.Attrs["url"])
		if err != nil {
			return nil, err
		}
		return ServerPlace(client, o.Staging), nil
	}
	return nil, fmt.Errorf("cache of type %s: %w", c.Type, errors.ErrUnsupported)
}

// repository is the repository of a name.
func repository(client *registry.Client, name string) (*remote.Place, error) {
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

// directory is an OCI layout: dest= is written to, src= is read. It may be carried elsewhere, and is what it was.
func directory(c Spec) (*remote.Place, error) {
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

// bucket is a bucket of S3.
func (o *Opener) bucket(c Spec) (*remote.Place, error) {
	options, err := s3.ParseOptions(c.Attrs, os.Getenv)
	if err != nil {
		return nil, err
	}
	options.Limits = Limits()
	bucket, err := s3.Open(options)
	if err != nil {
		return nil, err
	}
	store := objects.New(bucket, o.Staging)
	return &remote.Place{Name: bucket.Name(), Read: store, Write: store, Tags: bucket}, nil
}

// actions is the cache of a repository at GitHub, whose tags only its other API can list.
func (o *Opener) actions(c Spec) (*remote.Place, error) {
	options, err := gha.ParseOptions(c.Attrs, os.Getenv)
	if err != nil {
		return nil, err
	}
	if options.Limits == (web.Limits{}) {
		options.Limits = Limits()
	}
	bucket, err := gha.Open(options)
	if err != nil {
		return nil, err
	}
	store := objects.New(bucket, o.Staging)
	return &remote.Place{Name: bucket.Name(), Read: store, Write: store}, nil
}

// ServerPlace is a server of the Remote Execution API that keeps a cache.
func ServerPlace(client *reapi.Client, staging *image.Staging) *remote.Place {
	store := objects.New(cas.Bucket{Client: client}, staging)
	return &remote.Place{Name: client.String(), Read: store, Write: store}
}
