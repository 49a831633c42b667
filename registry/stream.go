package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// stream sends a blob while it is being made: one request with a body of unknown length, then one with the digest.
func (r *Repository) stream(ctx context.Context, content image.Content) (ocispec.Descriptor, error) {
	u := r.newUpload("")
	if _, err := u.start(ctx, "", ""); err != nil {
		return ocispec.Descriptor{}, err
	}
	offset := int64(0)
	for {
		d, err := u.patch(ctx, content, offset)
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
			return r.spool(ctx, content) // it does not take bodies of unknown length
		case !web.Retryable(err) && !lostSession(err):
			return d, err
		}
		if err := u.end.origin.wait(ctx, u.budget, err); err != nil {
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

// patch sends what content has after offset, and returns what it says it is.
func (u *upload) patch(ctx context.Context, content image.Content, offset int64) (d ocispec.Descriptor, err error) {
	var current io.ReadCloser // the last one: a request that has to show a token is sent twice
	req := u.request(http.MethodPatch, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	req.size = -1
	req.body = func() (io.ReadCloser, error) {
		if current != nil {
			_ = current.Close()
		}
		current, err = content.Open(ctx, offset)
		return current, err
	}
	err = u.do(ctx, req)
	if current == nil {
		return d, err
	}
	if cerr := current.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return d, err
	}
	if d = content.Describe(); d.Size < offset {
		err = fmt.Errorf("%s: registry has more of it than there is", u.name)
	}
	return d, err
}

// spool makes the blob in a temporary file and sends that.
func (r *Repository) spool(ctx context.Context, content image.Content) (d ocispec.Descriptor, err error) {
	f, w, err := image.Temporary(ctx)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in, err := content.Open(ctx, 0)
	if err != nil {
		return d, err
	}
	_, err = io.Copy(w, in)
	if err = errors.Join(err, in.Close()); err != nil {
		return d, err
	}
	d = content.Describe()
	return d, r.upload(ctx, d, func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, offset, d.Size-offset)), nil
	}, "")
}
