package registry

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/failpoint"
)

// download copies blobs by way of the partial store. Nobody waits while holding what others wait for: what can be claimed is
// claimed, downloaded, published and released before what others had claimed is asked for again.
func (c *copier) download(ctx context.Context, blobs []blobCopy) error {
	for len(blobs) > 0 {
		mine, busy, err := c.claimAll(blobs)
		if err != nil {
			return err
		}
		if len(mine) == 0 {
			if err := rest(ctx); err != nil {
				return err
			}
		}
		g, gctx := errgroup.WithContext(ctx)
		for _, m := range mine {
			g.Go(func() error { return c.downloadClaimed(gctx, m.blob, m.claim) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		blobs = busy
	}
	return nil
}

type claimedBlob struct {
	blob  blobCopy
	claim *claim
}

func (c *copier) claimAll(blobs []blobCopy) (mine []claimedBlob, busy []blobCopy, err error) {
	for _, b := range blobs {
		cl, err := c.opts.Partial.claim(b.d.Digest)
		if err != nil {
			for _, m := range mine {
				err = errors.Join(err, m.claim.release(false))
			}
			return nil, nil, err
		}
		if cl == nil {
			busy = append(busy, b)
			continue
		}
		mine = append(mine, claimedBlob{b, cl})
	}
	return mine, busy, nil
}

// awaitClaim claims one blob, while holding no other. Without a partial store there is nothing to claim.
func (c *copier) awaitClaim(ctx context.Context, d ocispec.Descriptor) (release func(drop bool) error, err error) {
	if c.opts.Partial == nil {
		return func(bool) error { return nil }, nil
	}
	for {
		cl, err := c.opts.Partial.claim(d.Digest)
		if err != nil {
			return nil, err
		}
		if cl != nil {
			return cl.release, nil
		}
		if err := rest(ctx); err != nil {
			return nil, err
		}
	}
}

// downloadClaimed downloads, unless who had the claim before has done so, and gives the claim up once the blob is visible.
func (c *copier) downloadClaimed(ctx context.Context, b blobCopy, cl *claim) (err error) {
	drop := false
	defer func() { err = errors.Join(err, cl.release(drop)) }()
	have, err := c.dst.Exists(ctx, b.d)
	if err != nil {
		return err
	}
	if have {
		drop = true
		c.rep.report(b.d, event.Exists, b.d.Size)
		return nil
	}
	if err := c.downloadOne(ctx, b, cl); err != nil {
		drop = errors.Is(err, errSpoilt) || errors.Is(err, image.ErrMismatch) || isFull(err)
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
	drop = true
	c.rep.report(b.d, event.Copied, b.d.Size)
	return nil
}

func (c *copier) downloadOne(ctx context.Context, b blobCopy, cl *claim) error {
	if err := c.take(ctx); err != nil {
		return err
	}
	defer c.give()
	if b.raw != nil {
		return c.store(ctx, b, nil)
	}
	return untilRight(c.src, b.d.Digest, func() error {
		err := c.downloadOnce(ctx, b, cl)
		if errors.Is(err, errSpoilt) {
			err = c.downloadOnce(ctx, b, cl) // from the beginning
		}
		return err
	})
}

// untilRight does what reads a blob of src, and again while that says that it has been given the wrong content and src has
// another place to get it from.
func untilRight(src Fetcher, d digest.Digest, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, image.ErrMismatch) || !rangesOf(src).Reject(d) {
			return err
		}
	}
}

func (c *copier) downloadOnce(ctx context.Context, b blobCopy, cl *claim) error {
	c.rep.report(b.d, event.Copying, 0)
	dl := startDownload(ctx, rangesOf(c.src), b.d, cl, &meter{rep: c.rep, d: b.d})
	err := c.store(ctx, b, dl)
	if err != nil {
		err = dl.reason(ctx, err)
	}
	return errors.Join(err, dl.Close())
}

// rangesOf makes any Fetcher open blobs at an offset.
func rangesOf(src Fetcher) RangeFetcher {
	if r, ok := src.(RangeFetcher); ok {
		return r
	}
	return skipper{src}
}

type skipper struct{ src Fetcher }

func (s skipper) FetchAt(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	r, err := s.src.Fetch(ctx, d)
	if err != nil || offset == 0 {
		return r, err
	}
	if _, err := io.CopyN(io.Discard, r, offset); err != nil {
		return nil, errors.Join(noEOF(err), r.Close())
	}
	return r, nil
}

// Reject says that a Fetcher of one place gives the same again.
func (s skipper) Reject(digest.Digest) bool { return false }

// sourceOf opens a blob for an upload.
func sourceOf(src Fetcher, d ocispec.Descriptor) source {
	return func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		if offset == 0 {
			return src.Fetch(ctx, d)
		}
		return rangesOf(src).FetchAt(ctx, d, offset)
	}
}

func metered(open source, m *meter) source {
	return func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		r, err := open(ctx, offset)
		if err != nil {
			return nil, err
		}
		return m.reader(r, offset), nil
	}
}

// mountFrom is the repository of dst's registry from which blobs of src may be mounted, or "".
func mountFrom(dst *Repository, src Fetcher) string {
	from, ok := src.(*Repository)
	if !ok {
		return ""
	}
	a, b := dst.home(), from.home()
	if a.origin.host != b.origin.host || a.path == b.path {
		return ""
	}
	return b.path
}
