package s3

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/image"
)

// Limits of S3 ("Amazon S3 multipart upload limits").
const (
	maxPut   = 5 << 30 // bytes of an object that is put in one request
	maxParts = 10_000
)

// onePut is how big a blob is at most that is put in one request; of a bigger one several parts are sent at a time.
const onePut = 64 << 20

// Put implements [objects.Bucket].
func (b *Bucket) Put(ctx context.Context, d ocispec.Descriptor, content image.Content) error {
	if d.Size > b.onePut {
		return b.putParts(ctx, d, content)
	}
	err := b.done(ctx, request{
		method: http.MethodPut, key: b.blob(d), size: d.Size, sum: d.Digest.Encoded(), want: []int{http.StatusOK},
		body: func() (io.ReadCloser, error) { return content.Open(ctx, 0) },
	})
	if err == nil || ctx.Err() != nil || errors.Is(err, image.ErrMismatch) {
		return err
	}
	// Of wrong content the bucket says that the signature is wrong, which has the digest in it, perhaps before the last byte is sent.
	return errors.Join(objects.Check(ctx, content), err)
}

// A completed upload names its parts.
type completed struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Part    []part
}

type part struct {
	PartNumber int
	ETag       string
}

// putParts puts a blob as a multipart upload, which is given up again when a part fails. The bucket checks no digest of the whole:
// the content is read once more for that, meanwhile.
func (b *Bucket) putParts(ctx context.Context, d ocispec.Descriptor, content image.Content) error {
	resp, err := b.do(ctx, request{method: http.MethodPost, key: b.blob(d), query: url.Values{"uploads": {""}}, want: []int{http.StatusOK}})
	if err != nil {
		return err
	}
	raw, err := objects.ReadAll(resp)
	if err != nil {
		return err
	}
	var begun struct{ UploadId string } //nolint:revive,staticcheck // as S3 spells it
	if err := xml.Unmarshal(raw, &begun); err != nil || begun.UploadId == "" {
		return fmt.Errorf("%s: the bucket began no upload: %w", d.Digest, err)
	}
	upload := url.Values{"uploadId": {begun.UploadId}}
	if err = b.sendParts(ctx, d, content, upload); err != nil {
		abort := request{method: http.MethodDelete, key: b.blob(d), query: upload, want: []int{http.StatusNoContent, http.StatusOK, http.StatusNotFound}}
		return errors.Join(err, b.done(context.WithoutCancel(ctx), abort))
	}
	return nil
}

func (b *Bucket) sendParts(ctx context.Context, d ocispec.Descriptor, content image.Content, upload url.Values) error {
	size := max(b.onePut/2, (d.Size+maxParts-1)/maxParts)
	all := completed{Part: make([]part, (d.Size+size-1)/size)}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(b.o.Parallel)
	g.Go(func() error { return objects.Check(gctx, content) })
	for i := range all.Part {
		g.Go(func() error {
			at := int64(i) * size
			n := min(size, d.Size-at)
			q := url.Values{"uploadId": upload["uploadId"], "partNumber": {strconv.Itoa(i + 1)}}
			resp, err := b.do(gctx, request{
				method: http.MethodPut, key: b.blob(d), query: q, size: n, want: []int{http.StatusOK},
				body: func() (io.ReadCloser, error) {
					return content.Section(gctx, at, n)
				},
			})
			if err != nil {
				return err
			}
			all.Part[i] = part{i + 1, resp.Header.Get("ETag")}
			_, err = objects.ReadAll(resp)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return b.complete(ctx, d, all, upload)
}

// complete makes one object of the parts. S3 may answer 200 and then tell of an error.
func (b *Bucket) complete(ctx context.Context, d ocispec.Descriptor, all completed, upload url.Values) error {
	raw, err := xml.Marshal(all)
	if err != nil {
		return err
	}
	resp, err := b.do(ctx, request{
		method: http.MethodPost, key: b.blob(d), query: upload, size: int64(len(raw)), want: []int{http.StatusOK},
		body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	})
	if err != nil {
		return err
	}
	answer, err := objects.ReadAll(resp)
	if err != nil {
		return err
	}
	var refused struct {
		XMLName xml.Name
		Message string
	}
	if err := xml.Unmarshal(answer, &refused); err != nil || refused.XMLName.Local == "Error" {
		return fmt.Errorf("%s: the bucket did not complete it: %s: %w", d.Digest, refused.Message, errors.Join(err, errIncomplete))
	}
	return nil
}

var errIncomplete = errors.New("upload is not complete")
