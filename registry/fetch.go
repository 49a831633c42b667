package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// FetchAt opens a blob from offset on. The reader gives all of the rest, over as many requests as it takes, or fails. It
// checks the blob's size; the digest is for the caller to check, who has the first part.
func (r *Repository) FetchAt(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := image.CheckDescriptor(d); err != nil {
		return nil, err
	}
	if offset < 0 || offset > d.Size {
		return nil, fmt.Errorf("%s: offset %d is out of range", d.Digest, offset)
	}
	var br *blobReader
	err := r.try(ctx, true, func(e *endpoint) error {
		br = &blobReader{
			ctx: ctx, end: e, d: d, offset: offset, ranges: true,
			budget: web.NewBudget(e.origin.limits, e.origin.retrying),
		}
		return br.open()
	})
	if err != nil {
		return nil, err
	}
	return br, nil
}

// A blobReader reads a blob to its stated size, asking again for the rest when a connection breaks.
type blobReader struct {
	ctx    context.Context
	end    *endpoint
	d      ocispec.Descriptor
	offset int64 // of the next byte
	budget *web.Budget
	body   io.ReadCloser // nil between requests
	mark   int64         // offset at the last failure that counted as progress
	ranges bool          // until the registry gives a false one
	moved  time.Time     // when bytes last came
}

func (b *blobReader) name() string {
	return b.end.origin.name + "/" + b.end.path + "@" + b.d.Digest.String()
}

// open asks for the rest of the blob.
func (b *blobReader) open() error {
	for {
		err := b.request()
		if err == nil {
			return nil
		}
		if err := b.failed(err); err != nil {
			return err
		}
	}
}

func (b *blobReader) failed(err error) error {
	if b.ctx.Err() != nil || !web.Retryable(err) {
		return err
	}
	if b.offset-b.mark >= web.ProgressBytes {
		b.budget.Progress(b.moved)
		b.mark = b.offset
	}
	return b.budget.Wait(b.ctx, err)
}

func (b *blobReader) request() error {
	if b.offset == b.d.Size && b.offset > 0 {
		b.body = http.NoBody
		return nil
	}
	req := &request{
		method: http.MethodGet, path: b.end.url("blobs", b.d.Digest.String()), access: b.end.pull(),
		name: b.name(), want: []int{http.StatusOK}, header: http.Header{},
	}
	ranged := b.offset > 0 && b.ranges
	if ranged {
		req.header.Set("Range", fmt.Sprintf("bytes=%d-", b.offset))
		req.want = []int{http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable}
	}
	resp, err := b.end.origin.once(b.ctx, req, b.budget)
	if err != nil {
		return err
	}
	body, err := b.accept(resp)
	if err != nil {
		resp.Body.Close()
		return err
	}
	b.body = body
	return nil
}

// accept checks that an answer holds what was asked for, and skips what is known of it.
func (b *blobReader) accept(resp *http.Response) (io.ReadCloser, error) {
	if resp.Header.Get("Content-Encoding") != "" {
		return nil, fmt.Errorf("%s: registry sends it in another encoding", b.name())
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-%d/%d", b.offset, b.d.Size-1, b.d.Size)
		open := fmt.Sprintf("bytes %d-%d/*", b.offset, b.d.Size-1)
		if got := strings.TrimSpace(resp.Header.Get("Content-Range")); got != want && got != open {
			b.ranges = false
			return nil, &web.ConnError{Err: fmt.Errorf("%s: registry answers with a false range %q, want %q", b.name(), clip(got), want)}
		}
		return resp.Body, nil
	case http.StatusRequestedRangeNotSatisfiable:
		b.ranges = false
		return nil, &web.ConnError{Err: fmt.Errorf("%s: registry denies a range of it", b.name())}
	}
	if n := resp.ContentLength; n >= 0 && n != b.d.Size {
		return nil, fmt.Errorf("%s: has %d bytes and its manifest says %d", b.name(), n, b.d.Size)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, b.offset); err != nil {
		return nil, &web.ConnError{Err: fmt.Errorf("%s: %w", b.name(), noEOF(err))}
	}
	return resp.Body, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (b *blobReader) Read(p []byte) (int, error) {
	for {
		if b.body == nil {
			if err := b.open(); err != nil {
				return 0, err
			}
		}
		left := b.d.Size - b.offset
		if int64(len(p)) > left+1 {
			p = p[:left+1]
		}
		n, err := b.body.Read(p)
		if int64(n) > left {
			return 0, fmt.Errorf("%s: is longer than the %d bytes its manifest says", b.name(), b.d.Size)
		}
		if b.offset += int64(n); n > 0 {
			b.moved = time.Now()
		}
		if err == nil {
			return n, nil
		}
		if b.offset == b.d.Size {
			return n, io.EOF // whatever else the connection had to say
		}
		if err := b.again(err); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// again prepares for another request after a body that ended early with err.
func (b *blobReader) again(err error) error {
	b.body.Close()
	b.body = nil
	err = &web.ConnError{Err: fmt.Errorf("%s: broke off after %s of %d bytes: %w", b.name(), strconv.FormatInt(b.offset, 10), b.d.Size, noEOF(err))}
	return b.failed(err)
}

func (b *blobReader) Close() error {
	if b.body == nil {
		return nil
	}
	err := b.body.Close()
	b.body = nil
	return ignoreCancel(err)
}

// ignoreCancel drops what closing a body early says.
func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
