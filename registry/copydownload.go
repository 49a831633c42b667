package registry

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/internal/web"
)

// download copies blobs by way of the partial store. Nobody waits while holding what others wait for: what can be claimed is
// claimed, downloaded, published and released before what others had claimed is asked for again.
func (c *copier) download(ctx context.Context, blobs []*blobCopy) error {
	for len(blobs) > 0 {
		mine, busy, err := c.claimAll(blobs)
		if err != nil {
			return err
		}
		if len(mine) == 0 {
			if err := web.Sleep(ctx, claimPause); err != nil {
				return err
			}
		}
		g, gctx := errgroup.WithContext(ctx)
		for _, b := range blobs {
			if cl := mine[b]; cl != nil {
				g.Go(func() error { return c.downloadClaimed(gctx, b, cl) })
			}
		}
		if err := g.Wait(); err != nil {
			return err
		}
		blobs = busy
	}
	return nil
}

// claimAll claims what nobody else has claimed.
func (c *copier) claimAll(blobs []*blobCopy) (mine map[*blobCopy]*claim, busy []*blobCopy, err error) {
	mine = map[*blobCopy]*claim{}
	for _, b := range blobs {
		cl, err := c.opts.Partial.claim(b.d.Digest)
		if err != nil {
			for _, claimed := range mine {
				err = errors.Join(err, claimed.release())
			}
			return nil, nil, err
		}
		if cl == nil {
			busy = append(busy, b)
			continue
		}
		mine[b] = cl
	}
	return mine, busy, nil
}

// awaitClaim claims one blob, while holding no other. Without a partial store there is nothing to claim.
func (c *copier) awaitClaim(ctx context.Context, d ocispec.Descriptor) (drop func() error, err error) {
	if c.opts.Partial == nil {
		return func() error { return nil }, nil
	}
	for {
		cl, err := c.opts.Partial.claim(d.Digest)
		if err != nil {
			return nil, err
		}
		if cl != nil {
			return cl.drop, nil
		}
		if err := web.Sleep(ctx, claimPause); err != nil {
			return nil, err
		}
	}
}

// downloadClaimed downloads, unless who had the claim before has done so, and gives the claim up once the blob is visible.
func (c *copier) downloadClaimed(ctx context.Context, b *blobCopy, cl *claim) (err error) {
	giveUp := cl.release
	defer func() { err = errors.Join(err, giveUp()) }()
	have, err := c.dst.Exists(ctx, b.d)
	if err != nil {
		return err
	}
	if have {
		giveUp = cl.drop
		c.report(b.d, event.Exists, b.d.Size)
		return nil
	}
	if err := c.downloadOne(ctx, b, cl); err != nil {
		if errors.Is(err, errSpoilt) || errors.Is(err, image.ErrMismatch) || isFull(err) {
			giveUp = cl.drop
		}
		return fmt.Errorf("%s: %w", image.Noun(b.d.MediaType), err)
	}
	if err := failpoint.At("registry.download.before-publish"); err != nil {
		return err
	}
	if err := c.publish(ctx); err != nil {
		return err
	}
	if err := failpoint.At("registry.download.before-release"); err != nil {
		return err
	}
	giveUp = cl.drop
	c.report(b.d, event.Copied, b.d.Size)
	return nil
}

func (c *copier) downloadOne(ctx context.Context, b *blobCopy, cl *claim) error {
	if err := c.take(ctx); err != nil {
		return err
	}
	defer c.give()
	if b.raw != nil {
		return c.push(ctx, b, image.Bytes(b.raw))
	}
	return c.untilRight(ctx, b.d.Digest, func() (bool, error) {
		err := c.downloadOnce(ctx, b, cl)
		if errors.Is(err, errSpoilt) {
			err = c.downloadOnce(ctx, b, cl) // from the beginning
		}
		return true, err // nothing is wrong before the source has been asked
	})
}

func (c *copier) downloadOnce(ctx context.Context, b *blobCopy, cl *claim) error {
	c.report(b.d, event.Copying, 0)
	dl := startDownload(ctx, c.src, b.d, cl, &image.Meter{Events: c.opts.Events, Blob: b.d})
	err := c.keep(ctx, b, dl)
	if err != nil {
		err = dl.reason(ctx, err)
	}
	return errors.Join(err, dl.Close())
}

// keep gives the destination a blob that is being downloaded.
func (c *copier) keep(ctx context.Context, b *blobCopy, dl *download) error {
	if c.opts.PushLayer != nil && b.layer.DiffID != "" {
		return c.opts.PushLayer(ctx, b.layer, image.Incoming{Reader: dl, Adopt: dl.adopt})
	}
	// A download is read once, from its beginning, by a store that keeps it on this machine.
	_, err := c.dst.Push(ctx, b.d, image.Content{Open: func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(dl), nil }})
	return err
}
