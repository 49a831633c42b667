package forge

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/image"
)

// A ContentStore is a directory of blobs that a client lends.
type ContentStore = image.ContentStore

// A Descriptor is what blobs are named by.
type Descriptor = ocispec.Descriptor

// lentPlace is a client's directory that a cache is kept in. The client says what is in it when it lends it to be read, and else nothing: a
// cache that is only written is begun anew.
func (s *farSettings) lentPlace(ctx context.Context, c CacheSpec) (*remote.Place, error) {
	dir, tag := cmp.Or(c.Attrs["dest"], c.Attrs["src"]), cmp.Or(c.Attrs["tag"], "latest")
	root := c.Attrs["digest"]
	for _, from := range s.options.From {
		if c.Attrs["dest"] != "" && from.Type == "local" && from.Attrs["src"] == dir && cmp.Or(from.Attrs["tag"], "latest") == tag {
			root = from.Attrs["digest"]
		}
	}
	store, err := image.OpenLentDir(ctx, s.options.Client.Content("local:"+dir), tag, digest.Digest(root))
	if err != nil {
		return nil, err
	}
	// The name has what is in the directory: what is remembered of it is of that, and not of another client's directory.
	place := &remote.Place{Name: "client:" + dir + "@" + cmp.Or(root, rand.Text()), Identity: "local", Read: store, Tags: store}
	if c.Attrs["dest"] != "" {
		place.Write = store
	}
	return place, nil
}

// lentLayout opens an OCI layout of a client: STORE[:TAG]@DIGEST.
func (r *resolver) lentLayout(ctx context.Context, spec string) (*image.LentDir, Descriptor, error) {
	name, root, ok := strings.Cut(spec, "@")
	if !ok {
		return nil, Descriptor{}, errors.New("a layout of the client is named with the digest of its image")
	}
	name, _, _ = strings.Cut(name, ":")
	store, err := image.OpenLentDir(ctx, r.content("oci:"+name), "", digest.Digest(root))
	if err != nil {
		return nil, Descriptor{}, err
	}
	d, err := store.Resolve(ctx, image.Reference{})
	return store, d, err
}
