package forge

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/image"
)

// A ContentStore is a directory of blobs that a client lends: of an image, or of a cache, to which it may be written, too. The client keeps
// the names of what is in it.
type ContentStore interface {
	// Size is how many bytes a blob has. What is not there is an error that is fs.ErrNotExist.
	Size(ctx context.Context, d digest.Digest) (int64, error)
	Read(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error)
	Write(ctx context.Context, d digest.Digest, size int64, r io.Reader) error
	// Name tells the client what is to have a tag.
	Name(tag string, d Descriptor) error
}

// A Descriptor is what blobs are named by.
type Descriptor = ocispec.Descriptor

// A lentStore is a client's directory as a store of images. What is written is checked here, as what is read is checked by who reads it.
type lentStore struct {
	content ContentStore

	mu    sync.Mutex // guards names
	names map[string]Descriptor
}

// lent opens a client's directory, of which it has said what one tag stands for; "" is not said.
func lent(ctx context.Context, content ContentStore, tag string, d digest.Digest) (*lentStore, error) {
	s := &lentStore{content: content, names: map[string]Descriptor{}}
	if d == "" {
		return s, nil
	}
	if err := image.CheckDigest(d); err != nil {
		return nil, err
	}
	size, err := content.Size(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	doc, _, err := image.ReadDocument(ctx, s, Descriptor{Digest: d, Size: size})
	if err != nil {
		return nil, err
	}
	s.names[tag] = Descriptor{MediaType: doc.MediaType, Digest: d, Size: size}
	return s, nil
}

// Resolve implements image.Store.
func (s *lentStore) Resolve(_ context.Context, r image.Reference) (Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.names[r.Tag]
	if !ok {
		return d, fmt.Errorf("tag %s: %w", r.Tag, fs.ErrNotExist)
	}
	return d, nil
}

// Tags implements remote.Lister.
func (s *lentStore) Tags(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.names)), nil
}

// Fetch implements image.Store.
func (s *lentStore) Fetch(ctx context.Context, d Descriptor, offset int64) (io.ReadCloser, error) {
	if err := image.CheckOffset(d, offset); err != nil {
		return nil, err
	}
	return s.content.Read(ctx, d.Digest, offset)
}

// Exists implements image.Store.
func (s *lentStore) Exists(ctx context.Context, d Descriptor) (bool, error) {
	size, err := s.content.Size(ctx, d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && size == d.Size, err
}

// Push implements image.Store. A blob whose digest is not known yet is read twice.
func (s *lentStore) Push(ctx context.Context, d Descriptor, content image.Content) (_ Descriptor, err error) {
	if d.Digest == "" {
		if d, err = describe(ctx, content); err != nil {
			return d, err
		}
	}
	if err := image.CheckDescriptor(d); err != nil {
		return d, err
	}
	if there, err := s.Exists(ctx, d); there || err != nil {
		return d, err
	}
	r, err := content.Open(ctx, 0)
	if err != nil {
		return d, err
	}
	err = s.content.Write(ctx, d.Digest, d.Size, image.Verify(r, d))
	return d, errors.Join(err, r.Close())
}

// describe finds out what content is.
func describe(ctx context.Context, content image.Content) (d Descriptor, err error) {
	r, err := content.Open(ctx, 0)
	if err != nil {
		return d, err
	}
	sum := digest.Canonical.Digester()
	size, err := io.Copy(sum.Hash(), r)
	if err = errors.Join(err, r.Close()); err != nil {
		return d, err
	}
	if content.Describe != nil {
		d = content.Describe()
	}
	d.Digest, d.Size = sum.Digest(), size
	return d, nil
}

// PushManifest implements image.Store.
func (s *lentStore) PushManifest(ctx context.Context, r image.Reference, d Descriptor, raw []byte) error {
	if _, err := s.Push(ctx, d, image.Bytes(raw)); err != nil || r.Tag == "" {
		return err
	}
	s.mu.Lock()
	s.names[r.Tag] = d
	s.mu.Unlock()
	return s.content.Name(r.Tag, d)
}

var _ image.Store = (*lentStore)(nil)

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
	store, err := lent(ctx, s.options.Client.Content("local:"+dir), tag, digest.Digest(root))
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
func (r *resolver) lentLayout(ctx context.Context, spec string) (*lentStore, Descriptor, error) {
	name, root, ok := strings.Cut(spec, "@")
	if !ok {
		return nil, Descriptor{}, errors.New("a layout of the client is named with the digest of its image")
	}
	name, _, _ = strings.Cut(name, ":")
	store, err := lent(ctx, r.content("oci:"+name), "", digest.Digest(root))
	if err != nil {
		return nil, Descriptor{}, err
	}
	d, err := store.Resolve(ctx, image.Reference{})
	return store, d, err
}
