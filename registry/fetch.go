package registry

import (
	"cmp"
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

// FetchRange opens a blob from one offset up to another, which is to be after it. What is read is not held to the blob's digest. A registry that
// answers with the whole blob is an error, but for pieces near its beginning: who reads many pieces would fetch the blob for each.
func (r *Repository) FetchRange(ctx context.Context, d ocispec.Descriptor, from, to int64) (io.ReadCloser, error) {
	if err := errors.Join(image.CheckDescriptor(d), image.CheckOffset(d, from)); err != nil {
		return nil, err
	}
	if to <= from || to > d.Size {
		return nil, fmt.Errorf("bytes %d to %d of %d", from, to, d.Size)
	}
	return r.fetchBlob(ctx, d, from, to, maxSkip)
}

// maxSkip is how many bytes before a piece of a blob are read for it, of a registry that gives no pieces.
const maxSkip = 1 << 20

// fetchBlob opens a blob from an offset up to end. The reader gives all of that, over as many requests as it takes, or fails. It
// checks the blob's size, if it is read up to that. Of an answer that holds more than was asked for, no more than skip bytes are skipped.
func (r *Repository) fetchBlob(ctx context.Context, d ocispec.Descriptor, offset, end, skip int64) (io.ReadCloser, error) {
	b := &blobReader{ctx: ctx, repo: r, ends: r.placesOf(d.Digest), d: d, offset: offset, end: end, skip: skip}
	if len(b.ends) == 0 {
		return nil, fmt.Errorf("%s: no mirror of it may be asked for this kind of name", r.Name())
	}
	b.begin()
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

// A blobReader reads a blob to its stated size. It asks again for the rest when a connection breaks, and the next endpoint
// when one of them gives up.
type blobReader struct {
	ctx    context.Context
	repo   *Repository
	ends   []*endpoint // that may be asked, the first one now
	told   error       // why the registry itself, if it was asked, gave up
	d      ocispec.Descriptor
	offset int64 // of the next byte
	end    int64 // behind the last one that is wanted
	skip   int64 // bytes at most that are read before offset
	budget *web.Budget
	body   io.ReadCloser // nil between requests
	mark   int64         // offset at the last failure that counted as progress
	ranges bool          // until the endpoint gives a false one
	moved  time.Time     // when bytes last came
}

// begin turns to the first endpoint.
func (b *blobReader) begin() {
	o := b.ends[0].origin
	b.budget, b.ranges, b.mark = web.NewBudget(o.limits), true, b.offset
}

func (b *blobReader) name() string {
	return b.ends[0].origin.name + "/" + b.ends[0].path + "@" + b.d.Digest.String()
}

// open asks for the rest of the blob.
func (b *blobReader) open() error {
	for {
		err := b.request()
		if err == nil {
			b.repo.answeredBlob(b.d.Digest, b.ends[0])
			return nil
		}
		if err := b.failed(err); err != nil {
			return err
		}
	}
}

// failed waits before the next try after err, or turns to the next endpoint, or returns why there is none.
func (b *blobReader) failed(err error) error {
	if b.ctx.Err() == nil && web.Retryable(err) {
		if b.offset-b.mark >= web.ProgressBytes {
			b.budget.Progress(b.moved)
			b.mark = b.offset
		}
		if err = b.ends[0].origin.wait(b.ctx, b.budget, err); err == nil {
			return nil
		}
	}
	if b.ctx.Err() != nil {
		return err
	}
	if !b.ends[0].mirror {
		b.told = err
	}
	if len(b.ends) == 1 {
		return cmp.Or(b.told, err)
	}
	b.ends = b.ends[1:]
	b.begin()
	return nil
}

func (b *blobReader) request() error {
	if b.offset == b.end && b.offset > 0 {
		b.body = http.NoBody
		return nil
	}
	req := &request{
		method: http.MethodGet, path: b.ends[0].url("blobs", b.d.Digest.String()), access: b.ends[0].pull(),
		name: b.name(), want: []int{http.StatusOK}, header: http.Header{},
	}
	if b.ranges && (b.offset > 0 || b.end < b.d.Size) {
		last := "" // of all that there is
		if b.end < b.d.Size {
			last = strconv.FormatInt(b.end-1, 10)
		}
		req.header.Set("Range", fmt.Sprintf("bytes=%d-%s", b.offset, last))
		req.want = []int{http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable}
	}
	resp, err := b.ends[0].origin.once(b.ctx, req, b.budget)
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
		want := fmt.Sprintf("bytes %d-%d/%d", b.offset, b.end-1, b.d.Size)
		open := fmt.Sprintf("bytes %d-%d/*", b.offset, b.end-1)
		if got := strings.TrimSpace(resp.Header.Get("Content-Range")); got != want && got != open {
			b.ranges = false
			return nil, &web.ConnError{Err: fmt.Errorf("%s: registry answers with a false range %q, want %q", b.name(), image.Clip(got), want)}
		}
		return resp.Body, nil
	case http.StatusRequestedRangeNotSatisfiable:
		b.ranges = false
		return nil, &web.ConnError{Err: fmt.Errorf("%s: registry denies a range of it", b.name())}
	}
	if n := resp.ContentLength; n >= 0 && n != b.d.Size {
		return nil, fmt.Errorf("%s: has %d bytes and its manifest says %d", b.name(), n, b.d.Size)
	}
	if b.offset > b.skip {
		return nil, fmt.Errorf("%s: the registry gives no pieces of blobs", b.name())
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
		left := b.end - b.offset
		more := int64(1) // to see whether there is more than there should be
		if b.end < b.d.Size {
			more = 0
		}
		if left+more == 0 {
			return 0, io.EOF
		}
		if int64(len(p)) > left+more {
			p = p[:left+more]
		}
		n, err := b.body.Read(p)
		if int64(n) > left {
			return 0, fmt.Errorf("%s: %w: it is longer than %d bytes", b.name(), image.ErrMismatch, b.d.Size)
		}
		if b.offset += int64(n); n > 0 {
			b.moved = time.Now()
		}
		if err == nil {
			return n, nil
		}
		if b.offset == b.end {
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
