package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/failpoint"
)

// CopyOptions say what to copy and how. The zero value copies everything.
type CopyOptions struct {
	Platforms   []ocispec.Platform // which images of an index; none is all
	Sparse      bool               // keep an index as it is even if only some of its images come along
	NoLayers    bool               // copy manifests and configurations only
	Name        image.Reference    // the name that the copy gets, if the destination is a Tagger
	Partial     *Partial           // where downloads wait to be whole; nil keeps nothing of them
	Concurrency int                // blobs on their way at once; 0 is 3
	Events      event.Sink         // takes the events of blobs, one at a time; may be nil
}

// headsAtOnce is how many blobs a registry is asked about at once.
const headsAtOnce = 8

// maxManifests bounds the manifests that one copy holds in memory, in bytes.
const maxManifests = 64 << 20

// Copy copies the manifest or index d, and all that it names, from src to dst, leaves first, and returns what stands for it
// there: d itself, or of an index of which Platforms selects one image that image's manifest, or an index of those selected.
// What dst has is not copied. If anything fails, the name is not given.
func Copy(ctx context.Context, dst Pusher, src Fetcher, d ocispec.Descriptor, opts CopyOptions) (ocispec.Descriptor, error) {
	c := newCopier(dst, src, opts)
	root, err := c.walk(ctx, d, 0)
	if err != nil {
		return d, err
	}
	if err := c.copyBlobs(ctx); err != nil {
		return d, err
	}
	if err := failpoint.At("registry.copy.before-manifests"); err != nil {
		return d, err
	}
	if err := c.copyManifests(ctx, root); err != nil {
		return d, err
	}
	if err := c.publish(ctx); err != nil {
		return d, err
	}
	if err := failpoint.At("registry.copy.before-name"); err != nil {
		return d, err
	}
	return root, c.name(ctx, root)
}

// CopyLayers copies layers alone: of an image whose manifest and configuration were copied before, with NoLayers.
func CopyLayers(ctx context.Context, dst Pusher, src Fetcher, layers []image.Layer, opts CopyOptions) error {
	c := newCopier(dst, src, opts)
	for _, l := range layers {
		if image.IsForeign(l.Blob.MediaType) {
			return fmt.Errorf("layer %s %w", l.Blob.Digest, errForeign)
		}
		c.note(blobCopy{d: l.Blob, diffID: l.DiffID})
	}
	if err := c.copyBlobs(ctx); err != nil {
		return err
	}
	return c.publish(ctx)
}

func newCopier(dst Pusher, src Fetcher, opts CopyOptions) *copier {
	if opts.Concurrency <= 0 {
		opts.Concurrency = 3
	}
	return &copier{
		dst: dst, src: src, opts: opts, slots: make(chan struct{}, opts.Concurrency),
		rep: &reporter{events: opts.Events}, seen: map[digest.Digest]bool{},
	}
}

// A copier is one Copy.
type copier struct {
	dst   Pusher
	src   Fetcher
	opts  CopyOptions
	slots chan struct{} // one for each blob on its way
	rep   *reporter

	seen      map[digest.Digest]bool
	manifests []manifestCopy // leaves first
	blobs     []blobCopy
	bytes     int64 // of the manifests
}

type manifestCopy struct {
	d   ocispec.Descriptor
	raw []byte
}

type blobCopy struct {
	d      ocispec.Descriptor
	diffID digest.Digest // of a layer, if the destination wants to know
	raw    []byte        // of a configuration, if that has been read already
}

// publish makes what was stored visible to others, if the destination wants to be told.
func (c *copier) publish(ctx context.Context) error {
	if p, ok := c.dst.(Publisher); ok {
		return p.Publish(ctx)
	}
	return nil
}

// copyManifests stores manifests after all that they name, the root last and, in a registry, under its name at once.
func (c *copier) copyManifests(ctx context.Context, root ocispec.Descriptor) error {
	for _, m := range c.manifests {
		var err error
		if repo, ok := c.dst.(*Repository); ok && m.d.Digest == root.Digest && c.opts.Name.Tag != "" {
			err = repo.putManifest(ctx, m.d, m.raw, c.opts.Name.Tag)
		} else {
			err = c.dst.Push(ctx, m.d, bytes.NewReader(m.raw))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", image.Noun(m.d.MediaType), err)
		}
		c.rep.report(m.d, event.Copied, m.d.Size)
	}
	return nil
}

func (c *copier) name(ctx context.Context, root ocispec.Descriptor) error {
	if c.opts.Name == (image.Reference{}) {
		return nil
	}
	if _, done := c.dst.(*Repository); done {
		return nil
	}
	if t, ok := c.dst.(Tagger); ok {
		return t.Tag(ctx, c.opts.Name, root)
	}
	return nil
}

// copyBlobs brings all blobs to the destination.
func (c *copier) copyBlobs(ctx context.Context) error {
	missing, err := c.missing(ctx)
	if err != nil {
		return err
	}
	if c.opts.Partial != nil {
		return c.download(ctx, missing)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opts.Concurrency) // starting the next only then keeps the order where it is 1, as archives want it
	for _, b := range missing {
		g.Go(func() error {
			if err := c.take(ctx); err != nil {
				return err
			}
			defer c.give()
			return c.copyBlob(ctx, b)
		})
	}
	return g.Wait()
}

func (c *copier) take(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *copier) give() { <-c.slots }

// missing asks the destination for all blobs at once and returns those that it does not have.
func (c *copier) missing(ctx context.Context) ([]blobCopy, error) {
	var (
		mu   sync.Mutex
		have = map[digest.Digest]bool{}
	)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(headsAtOnce)
	for _, b := range c.blobs {
		g.Go(func() error {
			ok, err := c.dst.Exists(gctx, b.d)
			if err != nil || !ok {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			have[b.d.Digest] = true
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var missing []blobCopy
	for _, b := range c.blobs {
		if !have[b.d.Digest] {
			missing = append(missing, b)
			continue
		}
		if err := c.opts.Partial.tidy(b.d.Digest); err != nil {
			return nil, err
		}
		c.rep.report(b.d, event.Exists, b.d.Size)
	}
	return missing, nil
}

// copyBlob copies one blob that the destination does not have, from its beginning.
func (c *copier) copyBlob(ctx context.Context, b blobCopy) error {
	return untilRight(c.src, b.d.Digest, func() error { return c.copyBlobOnce(ctx, b) })
}

func (c *copier) copyBlobOnce(ctx context.Context, b blobCopy) error {
	m := &meter{rep: c.rep, d: b.d}
	c.rep.report(b.d, event.Copying, 0)
	if repo, ok := c.dst.(*Repository); ok {
		mounted, err := repo.upload(ctx, b.d, metered(sourceOf(c.src, b.d), m), mountFrom(repo, c.src))
		if err != nil {
			return fmt.Errorf("%s: %w", image.Noun(b.d.MediaType), err)
		}
		if mounted {
			c.rep.report(b.d, event.Mounted, b.d.Size)
			return nil
		}
		c.rep.report(b.d, event.Copied, b.d.Size)
		return nil
	}
	if b.raw != nil {
		return c.store(ctx, b, nil)
	}
	r, err := c.src.Fetch(ctx, b.d)
	if err != nil {
		return fmt.Errorf("%s: %w", image.Noun(b.d.MediaType), err)
	}
	if err := c.store(ctx, b, m.reader(r, 0)); err != nil {
		if _, cause := io.Copy(io.Discard, r); cause != nil && ctx.Err() == nil && !isOurs(err) {
			err = cause // a decompressor fails long before the digest is known
		}
		return errors.Join(fmt.Errorf("%s: %w", image.Noun(b.d.MediaType), err), r.Close())
	}
	if err := r.Close(); err != nil {
		return fmt.Errorf("%s: %w", image.Noun(b.d.MediaType), err)
	}
	c.rep.report(b.d, event.Copied, b.d.Size)
	return nil
}

// store gives the destination the content of a blob.
func (c *copier) store(ctx context.Context, b blobCopy, r io.Reader) error {
	if b.raw != nil {
		r = bytes.NewReader(b.raw)
	}
	if sink, ok := c.dst.(LayerSink); ok && b.diffID != "" {
		return sink.PushLayer(ctx, b.d, b.diffID, r)
	}
	return c.dst.Push(ctx, b.d, r)
}
