package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// Push stores a blob; see [image.Store]. It is resumed when the connection breaks. One whose digest is not known goes by a
// single request of unknown length.
func (r *Repository) Push(ctx context.Context, d ocispec.Descriptor, content image.Content) (ocispec.Descriptor, error) {
	if d.Digest == "" {
		return r.stream(ctx, content)
	}
	if err := image.CheckDescriptor(d); err != nil {
		return d, err
	}
	from := ""
	if r.mounts != nil {
		from = r.mounts(d.Digest)
	}
	return d, r.upload(ctx, d, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		body, err := content.Open(ctx, offset)
		if err != nil || offset > 0 {
			return body, err
		}
		return image.Verified(body, d), nil
	}, from)
}

// MountFrom has blobs taken over from other repositories of the registry where it has them, instead of sent. where names
// the repository that may have a blob, or "". A wrong guess costs nothing, for the registry then answers as if it had not
// been asked.
func (r *Repository) MountFrom(where func(d digest.Digest) string) { r.mounts = where }

// MountsOf is a function for [Repository.MountFrom] where from, of the same registry, has all that is pushed; else it is
// nil.
func (r *Repository) MountsOf(from *Repository) func(digest.Digest) string {
	a, b := r.home(), from.home()
	if a.origin.host != b.origin.host || a.path == b.path {
		return nil
	}
	return func(digest.Digest) string { return b.path }
}

// PushManifest stores a manifest or an index under its digest or, unless ref is zero, under its tag; see [image.Store].
func (r *Repository) PushManifest(ctx context.Context, ref image.Reference, d ocispec.Descriptor, raw []byte) error {
	if err := image.CheckDescriptor(d); err != nil {
		return err
	}
	if ref.Tag != "" {
		return r.putManifest(ctx, d, raw, ref.Tag)
	}
	return r.putManifest(ctx, d, raw, d.Digest.String())
}

// putManifest stores a manifest under a tag or its digest.
func (r *Repository) putManifest(ctx context.Context, d ocispec.Descriptor, raw []byte, what string) error {
	e := r.home()
	if len(raw) > maxDocument {
		return fmt.Errorf("%s: manifest is longer than 4 MiB", d.Digest)
	}
	name := r.Name() + ":" + what
	if strings.Contains(what, ":") {
		name = r.Name() + "@" + what
	}
	resp, err := e.origin.do(ctx, &request{
		method: http.MethodPut, path: e.url("manifests", what), access: e.push(), name: name,
		header: http.Header{"Content-Type": {d.MediaType}}, size: int64(len(raw)),
		body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
		want: []int{http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent},
	})
	if err != nil {
		return err
	}
	if err := web.Drain(resp); err != nil {
		return err
	}
	if said := resp.Header.Get("Docker-Content-Digest"); strings.HasPrefix(said, "sha256:") && said != d.Digest.String() {
		return fmt.Errorf("%s: registry stored something else, %s", name, image.Clip(said))
	}
	r.remember(d.Digest, raw)
	if resp.Header.Get("OCI-Subject") == "" {
		return r.listReferrer(ctx, d, raw)
	}
	return nil
}
