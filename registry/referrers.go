package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Referrers lists the manifests of the repository that are about another: as the registry lists them or, where it does not, as
// clients do under a tag (OCI distribution specification 1.1, "Listing Referrers" and "Referrers Tag Schema"). Of many, it lists
// those of the first answer.
func (r *Repository) Referrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	if err := image.CheckDigest(subject); err != nil {
		return nil, err
	}
	e := r.home()
	resp, err := e.origin.do(ctx, &request{
		method: http.MethodGet, path: e.url("referrers", subject.String()), access: e.pull(), name: r.Name() + "@" + subject.String(),
		header: http.Header{"Accept": {ocispec.MediaTypeImageIndex}}, want: []int{http.StatusOK},
	})
	if errors.Is(err, fs.ErrNotExist) {
		return r.listedReferrers(ctx, subject)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if mediaTypeOf(resp) != ocispec.MediaTypeImageIndex { // a registry that does not know the question
		return r.listedReferrers(ctx, subject)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("%s: referrers of %s: %w", r.Name(), subject, err)
	}
	index, err := image.ParseIndex(raw, ocispec.MediaTypeImageIndex)
	if err != nil {
		return nil, fmt.Errorf("%s: referrers of %s: %w", r.Name(), subject, err)
	}
	return index.Manifests, nil
}

// listReferrer enters a manifest with a subject in the list that clients keep where the registry keeps none.
func (r *Repository) listReferrer(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	m, err := image.ParseDocument(raw, d.MediaType)
	if err != nil || m.Subject == nil {
		return nil //nolint:nilerr // the registry has taken it
	}
	if err := image.CheckDigest(m.Subject.Digest); err != nil {
		return err
	}
	list, err := r.listedReferrers(ctx, m.Subject.Digest)
	if err != nil || slices.ContainsFunc(list, func(have ocispec.Descriptor) bool { return have.Digest == d.Digest }) {
		return err
	}
	d.ArtifactType, d.Annotations = cmp.Or(m.ArtifactType, m.Config.MediaType), m.Annotations
	out, index, err := image.NewIndex(append(list, d), nil)
	if err != nil {
		return err
	}
	return r.putManifest(ctx, index, out, referrersTag(m.Subject.Digest))
}

// listedReferrers reads that list.
func (r *Repository) listedReferrers(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	tag := referrersTag(d)
	_, raw, err := r.getManifest(ctx, r.home(), r.Name()+":"+tag, tag)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := image.ParseIndex(raw, ocispec.MediaTypeImageIndex)
	return index.Manifests, err
}

func referrersTag(d digest.Digest) string { return strings.ReplaceAll(d.String(), ":", "-") }
