package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/closers"
)

// headsAtOnce is how many blobs a destination is asked about at once.
const headsAtOnce = 8

// copyBlobs brings all blobs to the destination.
func (c *copier) copyBlobs(ctx context.Context) error {
	missing, there, err := c.missing(ctx)
	if err != nil {
		return err
	}
	if c.opts.Prove != nil {
		if err := c.opts.Prove(ctx, there); err != nil {
			return err
		}
	}
	if c.opts.Partial != nil {
		return c.download(ctx, missing)
	}
	g, ctx := errgroup.WithContext(ctx)
	if c.opts.Concurrency == 1 {
		g.SetLimit(1) // keeps the order, as archives want it
	}
	for _, b := range missing {
		g.Go(func() error {
			if err := c.copyBlob(ctx, b); err != nil {
				return fmt.Errorf("%s: %w", b.name(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

// name is what to call a blob in a message: a layer whose form is not known by its diffID.
func (b *blobCopy) name() string {
	if b.layer.DiffID != "" {
		return "layer " + b.layer.DiffID.String()
	}
	return image.Noun(b.d.MediaType)
}

func (c *copier) take(ctx context.Context) error { return takeSlot(ctx, c.slots) }

func (c *copier) give() { <-c.slots }

func takeSlot(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// missing asks the destination for all blobs at once and returns those that it does not have, and the layers that it has.
func (c *copier) missing(ctx context.Context) (missing []*blobCopy, there []image.Layer, err error) {
	var (
		mu   sync.Mutex
		have = map[digest.Digest]bool{}
	)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(headsAtOnce)
	for _, b := range c.blobs {
		if !c.worthAsking(b) {
			continue
		}
		g.Go(func() error {
			ok, err := c.dst.Exists(gctx, b.to)
			if err != nil || !ok {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			have[b.to.Digest] = true
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	for _, b := range c.blobs {
		if !have[b.to.Digest] && !c.there[b.to.Digest] {
			missing = append(missing, b)
			continue
		}
		if err := c.opts.Partial.tidy(b.to.Digest); err != nil {
			return nil, nil, err
		}
		if b.layer.DiffID != "" {
			there = append(there, b.layer)
		}
		c.report(b.to, event.Exists, b.to.Size)
	}
	return missing, there, nil
}

// worthAsking reports whether the destination is asked for a blob. In a push, the configuration is small and mostly new:
// asking for it would cost what sending it does.
func (c *copier) worthAsking(b *blobCopy) bool {
	return b.to.Digest != "" && !c.there[b.to.Digest] && (c.opts.Forms == nil || b.raw == nil)
}

// copyBlob copies one blob that the destination does not have, from its beginning.
func (c *copier) copyBlob(ctx context.Context, b *blobCopy) error {
	if b.to.Digest == "" {
		return c.makeForm(ctx, b)
	}
	if err := c.take(ctx); err != nil {
		return err
	}
	defer c.give()
	c.report(b.to, event.Copying, 0)
	var opened atomic.Int64 // how often
	content := c.content(b)
	metered := image.Content{Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		opened.Add(1)
		r, err := content.Open(ctx, offset)
		if err != nil {
			return nil, err
		}
		return closers.Reader{Reader: io.TeeReader(r, &image.Meter{Events: c.opts.Events, Blob: b.to, Bytes: offset}), Closer: r}, nil
	}}
	err := c.untilRight(ctx, b.to.Digest, func() (bool, error) {
		before := opened.Load()
		err := c.push(ctx, b, metered)
		return opened.Load() > before, err
	})
	if err != nil {
		return err
	}
	if opened.Load() == 0 {
		c.report(b.to, event.Mounted, b.to.Size) // the destination had it from elsewhere
		return nil
	}
	c.report(b.to, event.Copied, b.to.Size)
	return nil
}

// content is where a blob's bytes are.
func (c *copier) content(b *blobCopy) image.Content {
	switch {
	case b.raw != nil:
		return image.Bytes(b.raw)
	case c.opts.Forms != nil && b.layer.DiffID != "":
		return c.opts.Forms.again(c.src, b.layer, b.to)
	}
	return image.ContentOf(c.src, b.to)
}

// push gives the destination the content of a blob.
func (c *copier) push(ctx context.Context, b *blobCopy, content image.Content) (err error) {
	if c.opts.PushLayer == nil || b.layer.DiffID == "" {
		_, err := c.dst.Push(ctx, b.to, content)
		return err
	}
	r, err := content.Open(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return c.opts.PushLayer(ctx, b.layer, image.Incoming{Reader: r})
}

// makeForm sends a layer in a form that is made meanwhile.
func (c *copier) makeForm(ctx context.Context, b *blobCopy) error {
	if err := takeSlot(ctx, c.makers); err != nil {
		return err
	}
	// The next layer need not wait for the destination to have done with this one.
	made := sync.OnceFunc(func() { <-c.makers })
	defer made()
	if err := c.take(ctx); err != nil {
		return err
	}
	defer c.give()
	shown := ocispec.Descriptor{MediaType: b.d.MediaType, Digest: b.layer.DiffID, Size: -1}
	c.report(shown, event.Copying, 0)
	form, err := c.dst.Push(ctx, b.to, c.opts.Forms.make(b.layer, &image.Meter{Events: c.opts.Events, Blob: shown}, made))
	if err != nil {
		return err
	}
	b.to, shown.Size = form, form.Size
	c.report(shown, event.Copied, form.Size)
	return nil
}

// untilRight does what reads a blob of the source, and again while that says that it has been given the wrong content and
// the source has another place to get it from. A try that has opened nothing speaks of an earlier one, and so would the next.
func (c *copier) untilRight(ctx context.Context, d digest.Digest, do func() (opened bool, err error)) error {
	for {
		opened, err := do()
		if c.opts.Reject == nil || !errors.Is(err, image.ErrMismatch) || !opened || ctx.Err() != nil || !c.opts.Reject(d) {
			return err
		}
	}
}
