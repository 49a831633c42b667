package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// A source opens content from an offset on, as often as it takes.
type source func(ctx context.Context, offset int64) (io.ReadCloser, error)

// An upload is a session of the registry's in which a blob arrives.
type upload struct {
	end      *endpoint
	name     string   // of the blob, in messages
	access   access   // of all its requests
	location *url.URL // where the next request goes
	budget   *web.Budget
}

// newUpload begins an upload of what has the digest what, "" if that is not known.
func (r *Repository) newUpload(what string) *upload {
	e, name := r.home(), r.Name()
	if what != "" {
		name += "@" + what
	}
	return &upload{
		end: e, name: name, access: e.push(), budget: web.NewBudget(e.origin.limits),
	}
}

// upload sends a blob that the repository does not have. from names a repository of the same registry that may have it:
// then it may be mounted instead of sent.
func (r *Repository) upload(ctx context.Context, d ocispec.Descriptor, open source, from string) error {
	u := r.newUpload(d.Digest.String())
	if mounted, err := u.start(ctx, d.Digest, from); err != nil || mounted {
		return err
	}
	offset, mark := int64(0), int64(0)
	for {
		err := u.send(ctx, d, open, offset)
		if err == nil || ctx.Err() != nil || !web.Retryable(err) && !lostSession(err) {
			return err
		}
		if offset-mark >= web.ProgressBytes {
			u.budget.Progress(time.Now())
			mark = offset
		}
		if err := u.end.origin.wait(ctx, u.budget, err); err != nil {
			return err
		}
		if offset, err = u.status(ctx); err == nil && offset <= d.Size {
			continue
		}
		// The session is gone: perhaps because it had got everything before the connection broke.
		if have, err := r.Exists(ctx, d); err == nil && have {
			return nil
		}
		if _, err := u.start(ctx, "", ""); err != nil {
			return err
		}
		offset = 0
	}
}

// lostSession reports whether the registry has forgotten an upload, or what of it had arrived.
func lostSession(err error) bool {
	return hasStatus(err, http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable) ||
		hasCode(err, "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID")
}

// start opens the session, unless the blob could be mounted.
func (u *upload) start(ctx context.Context, mount digest.Digest, from string) (mounted bool, err error) {
	req := &request{
		method: http.MethodPost, path: u.end.url("blobs", "uploads/"), access: u.access,
		want: []int{http.StatusAccepted}, name: u.name,
	}
	if from != "" {
		req.path += "?" + url.Values{"mount": {mount.String()}, "from": {from}}.Encode()
		req.access.scopes = append([]string{"repository:" + from + ":pull"}, u.access.scopes...)
		req.want = []int{http.StatusAccepted, http.StatusCreated}
	}
	resp, err := u.end.origin.do(ctx, req)
	if err != nil && from != "" && answered(err) {
		return u.start(ctx, "", "") // some registries refuse mounts that they cannot do
	}
	if err != nil {
		return false, err
	}
	if resp.StatusCode == http.StatusCreated {
		return true, web.Drain(resp)
	}
	return false, errors.Join(u.moved(resp), web.Drain(resp))
}

// moved takes the place of the next request from an answer.
func (u *upload) moved(resp *http.Response) error {
	to, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		if u.location != nil {
			return nil // it has not changed
		}
		return fmt.Errorf("%s: registry names no place for the upload", u.name)
	}
	o := u.end.origin
	if to.Scheme == "http" && o.currentScheme() == "https" && strings.EqualFold(web.HostOnly(to.Host), web.HostOnly(o.host)) {
		to.Scheme, to.Host = "https", o.host // a registry that does not know of the TLS in front of it
	}
	if err := o.client.Allow(resp.Request.URL, to); err != nil {
		return fmt.Errorf("%s: %w", u.name, err)
	}
	u.location = to
	return nil
}

// send sends what is missing of the blob and closes the session: in one request if nothing has arrived yet.
func (u *upload) send(ctx context.Context, d ocispec.Descriptor, open source, offset int64) error {
	if offset == 0 {
		return u.put(ctx, d.Digest, d.Size, func() (io.ReadCloser, error) { return open(ctx, 0) }, 0)
	}
	if offset < d.Size {
		req := u.request(http.MethodPatch, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
		req.body = func() (io.ReadCloser, error) { return open(ctx, offset) }
		req.size = d.Size - offset
		req.header.Set("Content-Range", fmt.Sprintf("%d-%d", offset, d.Size-1))
		if err := u.do(ctx, req); err != nil {
			return err
		}
	}
	return u.put(ctx, d.Digest, 0, nil, d.Size)
}

// put closes the session, after sending size bytes of body, if any; sent bytes have gone before.
func (u *upload) put(ctx context.Context, dgst digest.Digest, size int64, body func() (io.ReadCloser, error), sent int64) error {
	req := u.request(http.MethodPut, http.StatusCreated, http.StatusNoContent)
	to := *u.location
	q := to.Query()
	q.Set("digest", dgst.String())
	to.RawQuery = q.Encode()
	req.url, req.body, req.size, req.sent = &to, body, size, sent
	resp, err := u.end.origin.once(ctx, req, u.budget)
	if err != nil {
		return err
	}
	return web.Drain(resp)
}

func (u *upload) request(method string, want ...int) *request {
	return &request{
		method: method, url: u.location, access: u.access, want: want, name: u.name,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
	}
}

func (u *upload) do(ctx context.Context, req *request) error {
	resp, err := u.end.origin.once(ctx, req, u.budget)
	if err != nil {
		return err
	}
	return errors.Join(u.moved(resp), web.Drain(resp))
}

// status asks how much of the blob has arrived.
func (u *upload) status(ctx context.Context) (int64, error) {
	req := u.request(http.MethodGet, http.StatusNoContent, http.StatusAccepted, http.StatusOK)
	resp, err := u.end.origin.retry(ctx, req, u.budget)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(u.moved(resp), web.Drain(resp)); err != nil {
		return 0, err
	}
	return rangeEnd(resp.Header.Get("Range"))
}

// rangeEnd reads how many bytes "0-99" are. A registry that has none says 0-0, as one that has a single byte does: taking
// that for none is right for all registries that compare offsets.
func rangeEnd(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(s, "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || first != "0" || err != nil || n < -1 {
		return 0, fmt.Errorf("upload has a false range %q", image.Clip(s))
	}
	if n <= 0 {
		return 0, nil
	}
	return n + 1, nil
}
