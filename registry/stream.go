package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/web"
)

// A maker writes a blob whose digest is known only at its end. The same maker always writes the same bytes.
type maker func(ctx context.Context, w io.Writer) (ocispec.Descriptor, error)

// stream sends a blob while it is being made: one request with a body of unknown length, then one with the digest.
func (r *Repository) stream(ctx context.Context, what string, write maker) (ocispec.Descriptor, error) {
	u := r.newUpload(what)
	if _, err := u.start(ctx, "", ""); err != nil {
		return ocispec.Descriptor{}, err
	}
	offset := int64(0)
	for {
		d, err := u.patch(ctx, write, offset)
		if err == nil {
			err = u.close(ctx, r, d)
		}
		switch {
		case err == nil:
			return d, nil
		case ctx.Err() != nil:
			return d, err
		case hasStatus(err, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusLengthRequired,
			http.StatusRequestEntityTooLarge, http.StatusNotImplemented):
			return r.spool(ctx, write) // it does not take bodies of unknown length
		case !web.Retryable(err) && !lostSession(err):
			return d, err
		}
		if err := u.budget.Wait(ctx, err); err != nil {
			return d, err
		}
		if offset, err = u.status(ctx); err == nil {
			continue
		}
		if _, err := u.start(ctx, "", ""); err != nil {
			return d, err
		}
		offset = 0
	}
}

// close ends a session that has got all of d.
func (u *upload) close(ctx context.Context, r *Repository, d ocispec.Descriptor) error {
	err := u.put(ctx, d.Digest, 0, nil, d.Size)
	if err != nil && (web.Retryable(err) || lostSession(err)) {
		// The answer may be what was lost.
		if have, herr := r.Exists(ctx, d); herr == nil && have {
			return nil
		}
	}
	return err
}

// patch sends what write writes after offset, and returns what it says it is.
func (u *upload) patch(ctx context.Context, write maker, offset int64) (ocispec.Descriptor, error) {
	var current *making // the last one: a request that has to show a token is sent twice
	req := u.request(http.MethodPatch, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	req.size = -1
	req.body = func() (io.ReadCloser, error) {
		if current != nil {
			_ = current.Close()
		}
		current = startMaking(ctx, write, offset)
		return current, nil
	}
	err := u.do(ctx, req)
	if current == nil {
		return ocispec.Descriptor{}, err
	}
	if cerr := current.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err == nil && current.d.Size < offset {
		err = fmt.Errorf("%s: registry has more of it than there is", u.name)
	}
	return current.d, err
}

// A making is a maker at work: a body to be read.
type making struct {
	*io.PipeReader
	done chan struct{}
	once sync.Once
	d    ocispec.Descriptor // valid after done
	err  error
}

func startMaking(ctx context.Context, write maker, offset int64) *making {
	pr, pw := io.Pipe()
	m := &making{PipeReader: pr, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		m.d, m.err = write(ctx, &skipWriter{w: pw, skip: offset})
		pw.CloseWithError(m.err)
	}()
	return m
}

// Close waits for the maker and returns its error, or that it was not read to the end.
func (m *making) Close() error {
	m.once.Do(func() { _ = m.PipeReader.CloseWithError(errUnread) })
	<-m.done
	return m.err
}

var errUnread = errors.New("registry did not take all of it")

// A skipWriter drops the first bytes.
type skipWriter struct {
	w    io.Writer
	skip int64
}

func (s *skipWriter) Write(p []byte) (int, error) {
	n := int(min(s.skip, int64(len(p))))
	s.skip -= int64(n)
	if n == len(p) {
		return n, nil
	}
	k, err := s.w.Write(p[n:])
	return n + k, err
}

// spool makes the blob in a temporary file and sends that.
func (r *Repository) spool(ctx context.Context, write maker) (d ocispec.Descriptor, err error) {
	f, err := os.CreateTemp("", "forge-push-")
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := os.Remove(f.Name()); err != nil {
		return d, err
	}
	if d, err = write(ctx, f); err != nil {
		return d, err
	}
	_, err = r.upload(ctx, d, func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, offset, d.Size-offset)), nil
	}, "")
	return d, err
}
