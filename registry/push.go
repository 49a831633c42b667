package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
		return verified(body, d), nil
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

// Mount asks the registry to take a blob over from another of its repositories, and reports whether it did.
func (r *Repository) Mount(ctx context.Context, d ocispec.Descriptor, from string) (bool, error) {
	return r.newUpload(d.Digest.String()).start(ctx, d.Digest, from)
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
		return fmt.Errorf("%s: registry stored something else, %s", name, clip(said))
	}
	r.remember(d.Digest, raw)
	if resp.Header.Get("OCI-Subject") == "" {
		return r.listReferrer(ctx, d, raw)
	}
	return nil
}

// Tag gives a name to a manifest that the repository has.
func (r *Repository) Tag(ctx context.Context, ref image.Reference, d ocispec.Descriptor) error {
	if ref.Tag == "" {
		return nil // by its digest it is known already
	}
	raw, err := r.manifest(ctx, d)
	if err != nil {
		return err
	}
	return r.putManifest(ctx, d, raw, ref.Tag)
}

// Delete removes a manifest or a blob from the repository.
func (r *Repository) Delete(ctx context.Context, d ocispec.Descriptor) error {
	if err := image.CheckDigest(d.Digest); err != nil {
		return err
	}
	kind := "blobs"
	if image.IsDocument(d.MediaType) {
		kind = "manifests"
	}
	return r.delete(ctx, kind, d.Digest.String(), r.Name()+"@"+d.Digest.String())
}

// Untag removes a tag, and nothing else, from the repository.
func (r *Repository) Untag(ctx context.Context, ref image.Reference) error {
	return r.delete(ctx, "manifests", ref.Tag, r.Name()+":"+ref.Tag)
}

func (r *Repository) delete(ctx context.Context, kind, what, name string) error {
	e := r.home()
	resp, err := e.origin.do(ctx, &request{
		method: http.MethodDelete, path: e.url(kind, what), name: name,
		access: e.allow("pull,push,delete"), want: []int{http.StatusAccepted, http.StatusOK, http.StatusNoContent},
	})
	var re *ResponseError
	if errors.As(err, &re) && re.Status == http.StatusMethodNotAllowed {
		re.Hint = "the registry is set up not to delete"
	}
	if err != nil {
		return err
	}
	return web.Drain(resp)
}

// A referring manifest says what it is about.
type referring struct {
	Subject      *ocispec.Descriptor `json:"subject"`
	ArtifactType string              `json:"artifactType"`
	Config       struct {
		MediaType string `json:"mediaType"`
	} `json:"config"`
	Annotations map[string]string `json:"annotations"`
}

// listReferrer enters a manifest with a subject in the list that clients keep where the registry keeps none (OCI
// distribution spec, "Referrers Tag Schema").
func (r *Repository) listReferrer(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	var m referring
	if err := json.Unmarshal(raw, &m); err != nil || m.Subject == nil {
		return nil
	}
	if err := image.CheckDigest(m.Subject.Digest); err != nil {
		return err
	}
	list, err := r.referrersTag(ctx, m.Subject.Digest)
	if err != nil {
		return err
	}
	for _, have := range list {
		if have.Digest == d.Digest {
			return nil
		}
	}
	d.ArtifactType, d.Annotations = m.ArtifactType, m.Annotations
	if d.ArtifactType == "" {
		d.ArtifactType = m.Config.MediaType
	}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: append(list, d)}
	index.SchemaVersion = 2
	out, err := json.Marshal(index)
	if err != nil {
		return err
	}
	id := ocispec.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(out), Size: int64(len(out))}
	return r.putManifest(ctx, id, out, referrersTag(m.Subject.Digest))
}

func referrersTag(d digest.Digest) string { return strings.ReplaceAll(d.String(), ":", "-") }
