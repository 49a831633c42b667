// Package cas keeps a cache on a server of the Remote Execution API: blobs in its content-addressable storage, names in its action
// cache.
//
// A name is kept as the result of an action that nobody executes, whose only output is the document that the name stands for. Servers
// that check results before they give them out find that document among their content.
package cas

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
)

// A Bucket is a server as a place for objects. Safe for concurrent use.
type Bucket struct {
	Client *reapi.Client
}

func digestOf(d ocispec.Descriptor) reapi.Digest {
	return reapi.Digest{Hash: d.Digest.Encoded(), Size: d.Size}
}

// Get implements [objects.Bucket].
func (b Bucket) Get(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return b.Client.Read(ctx, digestOf(d), offset)
}

// Has implements [objects.Bucket]. To be asked is what makes a server keep a blob.
func (b Bucket) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	missing, err := b.Client.Missing(ctx, []reapi.Digest{digestOf(d)})
	return len(missing) == 0, err
}

// Put implements [objects.Bucket].
func (b Bucket) Put(ctx context.Context, d ocispec.Descriptor, content image.Content) error {
	caps, err := b.Client.Capabilities(ctx)
	if err != nil {
		return err
	}
	if !caps.CanUpdate() { // so that content does not go there for nothing
		return fmt.Errorf("%s: takes no names: %w", b.Client, fs.ErrPermission)
	}
	return b.Client.Store(ctx, []reapi.Blob{{Digest: digestOf(d), Open: content.Open}}, nil)
}

const document = "document" // the output that a name stands for

// action is the action that a name is the result of. Its content is what a server may want to show.
func (b Bucket) action(name string) (reapi.Digest, []reapi.Blob, error) {
	command, commandDigest, err := b.Client.Marshal(reapi.Command{
		Arguments: []string{"forge", "cache", "name", name}, Files: []string{document}, Paths: []string{document},
	})
	if err != nil {
		return reapi.Digest{}, nil, err
	}
	empty := reapi.DigestOf(nil) // a directory without files
	action, digest, err := b.Client.Marshal(reapi.Action{Command: &commandDigest, Input: &empty, Salt: []byte("forge cache 1")})
	return digest, []reapi.Blob{reapi.BlobOf(command), reapi.BlobOf(action), reapi.BlobOf(nil)}, err
}

// Read implements [objects.Bucket].
func (b Bucket) Read(ctx context.Context, name string) ([]byte, error) {
	digest, _, err := b.action(name)
	if err != nil {
		return nil, err
	}
	r, err := b.Client.Result(ctx, digest, document)
	if err != nil {
		return nil, err
	}
	if r == nil || r.File(document) == nil {
		return nil, fmt.Errorf("%s: %s: %w", b.Client, name, fs.ErrNotExist)
	}
	f := r.File(document)
	if len(f.Contents) > 0 && len(f.Contents) <= image.MaxManifestSize && reapi.DigestOf(f.Contents) == *f.Digest {
		return f.Contents, nil
	}
	return b.Client.ReadAll(ctx, *f.Digest, image.MaxManifestSize)
}

// Write implements [objects.Bucket].
func (b Bucket) Write(ctx context.Context, name string, raw []byte) error {
	return b.WriteAll(ctx, map[string][]byte{name: raw})
}

// atOnce is how many names are given at once.
const atOnce = 16

// WriteAll gives several names, each to its document. What they need is sent together.
func (b Bucket) WriteAll(ctx context.Context, documents map[string][]byte) error {
	var blobs []reapi.Blob
	results := map[reapi.Digest]*reapi.ActionResult{}
	for name, raw := range documents {
		digest, of, err := b.action(name)
		if err != nil {
			return err
		}
		content := reapi.BlobOf(raw)
		blobs = append(append(blobs, of...), content)
		results[digest] = &reapi.ActionResult{Files: []reapi.OutputFile{{Path: document, Digest: &content.Digest}}}
	}
	if err := b.Client.Store(ctx, blobs, nil); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for digest, r := range results {
		g.Go(func() error { return b.Client.SetResult(ctx, digest, r) })
	}
	return g.Wait()
}

var _ objects.Bucket = Bucket{}
