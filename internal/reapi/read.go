package reapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/internal/grpc"
)

// Read opens a blob from an offset on. What is read is not verified. A blob that is not there is an error that is fs.ErrNotExist, from
// Read or from the first read.
func (c *Client) Read(ctx context.Context, d Digest, offset int64) (io.ReadCloser, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	if d.Size == 0 || offset >= d.Size {
		return http.NoBody, nil
	}
	if _, err := c.Capabilities(ctx); err != nil {
		return nil, err
	}
	form := "blobs"
	if c.compresses() {
		form = "compressed-blobs/zstd"
	}
	s, err := c.Stream(ctx, c.resource(form+"/"+d.String()), offset)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", c, d, err)
	}
	const more = 1 // byte that a server may give too much: what is read is then found to be something else
	if form == "blobs" {
		return closers.Reader{Reader: io.LimitReader(s, d.Size-offset+more), Closer: s}, nil
	}
	content, _, err := image.Inflate(s)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return closers.Reader{Reader: io.LimitReader(content, d.Size-offset+more), Closer: &closers.Stack{s.Close, content.Close}}, nil
}

// Stream reads a resource by its name, such as what a command prints while it runs. It waits for the first bytes.
func (c *Client) Stream(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	call, err := c.ask(ctx, "/google.bytestream.ByteStream/Read", ReadRequest{Resource: name, Offset: offset})
	if err != nil {
		return nil, err
	}
	r := &stream{call: call}
	if err := r.next(); err != nil && err != io.EOF {
		call.Close()
		return nil, err
	}
	return r, nil
}

// A stream is a resource that is read.
type stream struct {
	call *grpc.Call
	left []byte
	err  error
}

func (s *stream) next() error {
	var part ReadResponse
	if s.err = s.call.Recv(&part); s.err != nil && s.err != io.EOF {
		s.err = plain(s.err)
	}
	s.left = part.Data
	return s.err
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.left) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		_ = s.next() // which is kept
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

func (s *stream) Close() error {
	s.call.Close()
	return nil
}

// ReadAll reads a blob of at most limit bytes, and verifies it.
func (c *Client) ReadAll(ctx context.Context, d Digest, limit int64) (data []byte, err error) {
	if d.Size > limit {
		return nil, fmt.Errorf("%s: %s: is larger than %d bytes", c, d, limit)
	}
	err = c.again(ctx, func() error {
		r, err := c.Read(ctx, d, 0)
		if err != nil {
			return err
		}
		data, err = io.ReadAll(io.LimitReader(r, d.Size+1))
		return errors.Join(err, r.Close())
	})
	if err == nil && DigestOf(data) != d {
		err = fmt.Errorf("%s: %s: the server gives other content", c, d)
	}
	return data, err
}

// deflate compresses a reader.
func deflate(ctx context.Context, r io.Reader) *io.PipeReader {
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(image.Compression{Algorithm: image.Zstd}.Deflate(ctx, pw, r)) }()
	return pr
}
