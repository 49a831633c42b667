package reapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/internal/grpc"
)

const (
	maxMessage = 4 << 20          // bytes that are received at once
	maxBatch   = 3 << 20          // of content in one call, whatever the server allows
	chunk      = 1 << 20          // of a blob that is written
	atOnce     = 8                // blobs that are uploaded at once
	maxFind    = 10_000           // digests that are asked for in one call
	trusted    = 10 * time.Minute // that a server keeps what it has said that it has
)

// A Blob is content to be stored.
type Blob struct {
	Digest Digest
	Open   func(ctx context.Context, offset int64) (io.ReadCloser, error) // from an offset on; it gives the same each time
}

// BlobOf is content that is in memory.
func BlobOf(data []byte) Blob {
	return Blob{DigestOf(data), func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), nil
	}}
}

// present is what a server is known to have.
type present struct {
	mu    sync.Mutex // guards blobs
	blobs map[Digest]time.Time
}

func (p *present) has(d Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.blobs[d]) < trusted
}

func (p *present) add(digests ...Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blobs == nil {
		p.blobs = map[Digest]time.Time{}
	}
	for _, d := range digests {
		p.blobs[d] = time.Now()
	}
}

// Forget has the server asked anew whether it has blobs.
func (c *Client) Forget(digests ...Digest) {
	c.present.mu.Lock()
	defer c.present.mu.Unlock()
	for _, d := range digests {
		delete(c.present.blobs, d)
	}
}

// Made notes that the server has blobs that it has made itself.
func (c *Client) Made(digests ...Digest) { c.present.add(digests...) }

// Has reports whether the server has had a blob a short time ago.
func (c *Client) Has(d Digest) bool { return c.present.has(d) }

// Missing asks which blobs the server has not. What it has had a short time ago it is not asked for again.
func (c *Client) Missing(ctx context.Context, digests []Digest) (missing []Digest, err error) {
	var ask []Digest
	for _, d := range digests {
		if d.Size > 0 && !c.present.has(d) && !slices.Contains(ask, d) {
			ask = append(ask, d)
		}
	}
	for part := range slices.Chunk(ask, maxFind) {
		var answer MissingBlobs
		in := FindMissing{Instance: c.instance, Blobs: part, Function: functionSHA256}
		if err := c.invoke(ctx, "ContentAddressableStorage/FindMissingBlobs", in, &answer); err != nil {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
		lacks := make(map[Digest]bool, len(answer.Blobs))
		for _, d := range answer.Blobs {
			lacks[d] = true
		}
		for _, d := range part {
			if lacks[d] {
				missing = append(missing, d)
			} else {
				c.present.add(d)
			}
		}
	}
	return missing, nil
}

// Upload stores what the server has not of some blobs. sent is told of bytes that were sent; it may be nil.
func (c *Client) Upload(ctx context.Context, blobs []Blob, sent func(n int)) error {
	digests := make([]Digest, len(blobs))
	for i, b := range blobs {
		digests[i] = b.Digest
	}
	missing, err := c.Missing(ctx, digests)
	if err != nil || len(missing) == 0 {
		return err
	}
	var send []Blob
	for _, b := range blobs {
		if i := slices.Index(missing, b.Digest); i >= 0 {
			send, missing = append(send, b), slices.Delete(missing, i, i+1)
		}
	}
	return c.Store(ctx, send, sent)
}

// Store stores blobs without asking whether they are there: small ones together, the others each in a stream.
func (c *Client) Store(ctx context.Context, blobs []Blob, sent func(n int)) error {
	if err := c.StoreOnce(ctx, blobs, sent); err != nil {
		return err
	}
	for _, b := range blobs {
		c.present.add(b.Digest)
	}
	return nil
}

// StoreOnce stores blobs that nobody needs again: that the server has them is not noted.
func (c *Client) StoreOnce(ctx context.Context, blobs []Blob, sent func(n int)) error {
	caps, err := c.Capabilities(ctx)
	if err != nil {
		return err
	}
	if sent == nil {
		sent = func(int) {}
	}
	limit := int64(maxBatch)
	if n := caps.Cache.MaxBatch; n > 0 {
		limit = min(limit, n)
	}
	const overhead = 128 // of an entry
	limit -= overhead
	var small []Blob
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, b := range blobs {
		if b.Digest.Size > limit/2 {
			g.Go(func() error { return c.write(gctx, b, sent) })
			continue
		}
		small = append(small, b)
	}
	for len(small) > 0 {
		n, size := 0, int64(0)
		for n < len(small) && size+small[n].Digest.Size+overhead <= limit {
			size += small[n].Digest.Size + overhead
			n++
		}
		part := small[:max(n, 1)]
		small = small[len(part):]
		if len(part) == len(blobs) { // which needs no goroutine
			err = c.batch(ctx, part, sent)
			break
		}
		g.Go(func() error { return c.batch(gctx, part, sent) })
	}
	if err := cmp.Or(err, g.Wait()); err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

// batch stores small blobs in one call.
func (c *Client) batch(ctx context.Context, blobs []Blob, sent func(int)) error {
	in := BatchUpdate{Instance: c.instance, Function: functionSHA256}
	for _, b := range blobs {
		r, err := b.Open(ctx, 0)
		if err != nil {
			return err
		}
		data := make([]byte, b.Digest.Size)
		_, err = io.ReadFull(r, data)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		if DigestOf(data) != b.Digest {
			return fmt.Errorf("%s: its content is another", b.Digest)
		}
		in.Blobs = append(in.Blobs, BatchEntry{&b.Digest, data})
	}
	err := c.again(ctx, func() error {
		var out BatchUpdated
		if err := c.invokeOnce(ctx, "ContentAddressableStorage/BatchUpdateBlobs", in, &out); err != nil {
			return err
		}
		for _, b := range out.Blobs {
			if b.Status != nil && b.Status.Code != grpc.OK && b.Status.Code != grpc.AlreadyExists {
				return b.Status
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, b := range blobs {
		sent(int(b.Digest.Size))
	}
	return nil
}

// write stores one blob in a stream.
func (c *Client) write(ctx context.Context, b Blob, sent func(int)) error {
	err := c.again(ctx, func() error { return c.writeOnce(ctx, b, sent) })
	if err != nil {
		return fmt.Errorf("%s: %w", b.Digest, err)
	}
	return nil
}

func (c *Client) writeOnce(ctx context.Context, b Blob, sent func(int)) (err error) {
	r, err := b.Open(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	form, compressed := "blobs", c.compresses()
	content := io.Reader(r)
	if compressed {
		form = "compressed-blobs/zstd"
		z := deflate(ctx, r)
		defer z.Close()
		content = z
	}
	md, err := c.metadata(ctx)
	if err != nil {
		return err
	}
	call := c.rpc.Start(ctx, "/google.bytestream.ByteStream/Write", md)
	defer call.Close()
	resource := c.resource("uploads/" + newUUID() + "/" + form + "/" + b.Digest.String())
	offset, whole, buf := int64(0), false, make([]byte, chunk)
	for {
		n, readErr := io.ReadFull(content, buf)
		last := errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF)
		if readErr != nil && !last {
			return readErr
		}
		err := call.Send(WriteRequest{Resource: resource, Offset: offset, Finish: last, Data: buf[:n]})
		if err == io.EOF { // it has ended the call: Recv says why
			break
		}
		if err != nil {
			return err
		}
		offset += int64(n)
		sent(n)
		if resource, whole = "", last; whole {
			break
		}
	}
	_ = call.CloseSend() // Recv says what is wrong
	var out WriteResponse
	if err := call.Recv(&out); err != nil {
		return err
	}
	if !(whole && out.Committed == offset) && out.Committed != b.Digest.Size && out.Committed != -1 {
		return grpc.Errorf(grpc.Unavailable, "the server has taken %d bytes of %d", out.Committed, b.Digest.Size)
	}
	return nil
}

// compresses reports whether blobs travel compressed by zstd. Capabilities has answered before.
func (c *Client) compresses() bool {
	return slices.Contains(c.caps.Cache.Compressors, compressorZstd)
}

// ask asks for a stream.
func (c *Client) ask(ctx context.Context, method string, in any) (*grpc.Call, error) {
	md, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	return c.rpc.Ask(ctx, method, md, in)
}

// resource is the name of something of the client's instance.
func (c *Client) resource(name string) string {
	if c.instance == "" {
		return name
	}
	return c.instance + "/" + name
}

// newUUID names an upload.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
