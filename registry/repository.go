package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// A Repository is a repository of a registry. It is an [image.Store]. Reads may be answered by the mirrors
// that are configured for it, writes go to the registry. Safe for concurrent use.
type Repository struct {
	client *Client
	ref    image.Reference
	ends   []*endpoint                // mirrors first, the registry last
	mounts func(digest.Digest) string // see MountFrom; may be nil
	whole  bool                       // see Whole

	mu    sync.Mutex               // guards what is below
	read  map[digest.Digest][]byte // manifests
	last  *endpoint                // who answered last
	blobs map[digest.Digest]*blobPlaces
}

// Writable is the repository as it is written to: its mirrors are not asked, and the first request already asks for the
// right to push.
func (r *Repository) Writable() *Repository {
	w := r.Unmirrored()
	w.ends[0].write = true
	return w
}

// Unmirrored is the repository as its registry has it: its mirrors are not asked.
func (r *Repository) Unmirrored() *Repository {
	e := *r.home()
	return &Repository{client: r.client, ref: r.ref, ends: []*endpoint{&e}, mounts: r.mounts, whole: r.whole}
}

// Whole is the repository for those who want to see what a name stands for: Resolve reads the manifest, in one request, and a Fetch of it
// then asks for nothing.
func (r *Repository) Whole() *Repository {
	return &Repository{client: r.client, ref: r.ref, ends: r.ends, mounts: r.mounts, whole: true}
}

// Name is the repository's name as people say it: docker.io/library/alpine.
func (r *Repository) Name() string { return r.ref.Domain + "/" + r.ref.Path }

// Reference is what the repository was connected for.
func (r *Repository) Reference() image.Reference { return r.ref }

// Resolve asks which manifest the reference names now; ref has to be of this repository. The descriptor's media type and
// size are the registry's word, which a later Fetch checks.
func (r *Repository) Resolve(ctx context.Context, ref image.Reference) (d ocispec.Descriptor, err error) {
	what, err := manifestRef(ref)
	if err != nil {
		return d, err
	}
	kind := byTag
	if ref.Digest != "" {
		kind = byDigest
	}
	err = r.try(ctx, kind, func(e *endpoint) error {
		d, err = r.resolveAt(ctx, e, ref, what)
		return err
	})
	return d, err
}

// manifestRef is the last part of a manifest's URL.
func manifestRef(ref image.Reference) (string, error) {
	if ref.Digest != "" {
		return ref.Digest.String(), image.CheckDigest(ref.Digest)
	}
	if ref.Tag == "" {
		return "", fmt.Errorf("reference %q has neither tag nor digest", ref.String())
	}
	return ref.Tag, nil
}

func (r *Repository) resolveAt(ctx context.Context, e *endpoint, ref image.Reference, what string) (ocispec.Descriptor, error) {
	if r.whole {
		return r.getAndRemember(ctx, e, ref, what)
	}
	resp, err := e.origin.do(ctx, r.manifestRequest(http.MethodHead, e, ref.String(), what))
	if err == nil {
		d, derr := headDescriptor(resp)
		if err := errors.Join(derr, web.Drain(resp)); err == nil && (ref.Digest == "" || d.Digest == ref.Digest) {
			return d, nil
		}
	} else if hasStatus(err, http.StatusUnauthorized, http.StatusForbidden) || ctx.Err() != nil || !answered(err) {
		return ocispec.Descriptor{}, err
	}
	// A registry that does not answer HEAD in full, or explains a refusal only in a body.
	return r.getAndRemember(ctx, e, ref, what)
}

func (r *Repository) getAndRemember(ctx context.Context, e *endpoint, ref image.Reference, what string) (ocispec.Descriptor, error) {
	d, raw, err := r.getManifest(ctx, e, ref.String(), what)
	if err == nil {
		r.remember(d.Digest, raw)
	}
	return d, err
}

// remember keeps a few manifests, which are often asked for again at once.
func (r *Repository) remember(d digest.Digest, raw []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read == nil || len(r.read) > 8 {
		r.read = map[digest.Digest][]byte{}
	}
	r.read[d] = raw
}

func answered(err error) bool {
	var re *responseError
	return errors.As(err, &re)
}

func (r *Repository) manifestRequest(method string, e *endpoint, name, what string) *request {
	return &request{
		method: method, path: e.url("manifests", what), access: e.pull(), name: name,
		want: []int{http.StatusOK}, header: http.Header{"Accept": {image.AcceptManifests}},
	}
}

// headDescriptor is what an answer's header says of a manifest, or an error if that is not enough.
func headDescriptor(resp *http.Response) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{
		MediaType: mediaTypeOf(resp),
		Digest:    digest.Digest(resp.Header.Get("Docker-Content-Digest")),
		Size:      resp.ContentLength,
	}
	if !image.IsDocument(d.MediaType) || d.Size <= 0 {
		return d, errors.New("incomplete answer")
	}
	return d, image.CheckDescriptor(d)
}

func mediaTypeOf(resp *http.Response) string {
	t, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(t)
}

// getManifest fetches a manifest by what names it and checks all that can be checked.
func (r *Repository) getManifest(ctx context.Context, e *endpoint, name, what string) (d ocispec.Descriptor, raw []byte, err error) {
	b := web.NewBudget(e.origin.limits)
	req := r.manifestRequest(http.MethodGet, e, name, what)
	for {
		resp, err := e.origin.retry(ctx, req, b)
		if err != nil {
			return d, nil, err
		}
		raw, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
		resp.Body.Close()
		if err == nil {
			d, err = checkManifest(resp, what, raw)
			if err != nil {
				return d, nil, fmt.Errorf("%s: %w", name, err)
			}
			return d, raw, nil
		}
		if err = fmt.Errorf("%s: %w", name, err); ctx.Err() != nil || !web.Retryable(err) {
			return d, nil, err
		}
		if err := e.origin.wait(ctx, b, err); err != nil {
			return d, nil, err
		}
	}
}

func checkManifest(resp *http.Response, what string, raw []byte) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaTypeOf(resp), Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if len(raw) > maxDocument {
		return d, errors.New("manifest is longer than 4 MiB")
	}
	if d.MediaType == "application/json" || d.MediaType == "text/plain" {
		d.MediaType = "" // as registries without a notion of types serve it
	}
	doc, err := image.ParseDocument(raw, d.MediaType)
	if err != nil {
		return d, err
	}
	d.MediaType = doc.MediaType
	if strings.Contains(what, ":") && d.Digest.String() != what {
		return d, fmt.Errorf("registry sent the content of %s", d.Digest)
	}
	if said := resp.Header.Get("Docker-Content-Digest"); strings.HasPrefix(said, "sha256:") && said != d.Digest.String() {
		return d, fmt.Errorf("registry sent the content of %s as %s", d.Digest, image.Clip(said))
	}
	return d, nil
}

// Fetch opens a manifest or a blob; see [image.Fetcher]. A download that breaks off is taken up again where it stopped.
func (r *Repository) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := image.CheckOffset(d, offset); err != nil {
		return nil, err
	}
	var raw []byte
	var err error
	switch {
	case image.IsDocument(d.MediaType):
		raw, err = r.manifest(ctx, d)
	case image.IsConfig(d.MediaType) && d.Size <= maxDocument:
		raw, err = r.config(ctx, d)
	default:
		return r.fetchBlob(ctx, d, offset, d.Size, d.Size)
	}
	if err != nil {
		return nil, err
	}
	return image.Bytes(raw).Open(ctx, offset)
}

// config reads a blob that is small enough to be looked at before anybody else sees it.
func (r *Repository) config(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	for {
		rc, err := r.fetchBlob(ctx, d, 0, d.Size, d.Size)
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(image.Verify(rc, d))
		if err = errors.Join(err, rc.Close()); !errors.Is(err, image.ErrMismatch) || !r.Reject(d.Digest) {
			return raw, err
		}
	}
}

func (r *Repository) manifest(ctx context.Context, d ocispec.Descriptor) (raw []byte, err error) {
	if err := image.CheckDescriptor(d); err != nil {
		return nil, err
	}
	r.mu.Lock()
	raw = r.read[d.Digest]
	r.mu.Unlock()
	name := r.Name() + "@" + d.Digest.String()
	if raw == nil {
		err = r.try(ctx, byDigest, func(e *endpoint) (err error) {
			var got ocispec.Descriptor
			got, raw, err = r.getManifest(ctx, e, name, d.Digest.String())
			if err == nil && got.MediaType != d.MediaType {
				return fmt.Errorf("%s: was announced as %q and served as %q", name, image.Clip(d.MediaType), image.Clip(got.MediaType))
			}
			return err
		})
	}
	if err == nil {
		r.remember(d.Digest, raw)
	}
	if err == nil && int64(len(raw)) != d.Size {
		return nil, fmt.Errorf("%s: has %d bytes and was announced with %d", name, len(raw), d.Size)
	}
	return raw, err
}

// Exists asks whether the repository has a manifest or a blob.
func (r *Repository) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if err := image.CheckDescriptor(d); err != nil {
		return false, err
	}
	e := r.home()
	kind := "blobs"
	if image.IsDocument(d.MediaType) {
		kind = "manifests"
	}
	req := r.manifestRequest(http.MethodHead, e, r.Name()+"@"+d.Digest.String(), d.Digest.String())
	req.path = e.url(kind, d.Digest.String())
	req.access = e.push() // what follows needs it, and one token is enough
	resp, err := e.origin.do(ctx, req)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if n := resp.ContentLength; n >= 0 && n != d.Size && resp.Header.Get("Content-Length") == strconv.FormatInt(n, 10) {
		return false, errors.Join(web.Drain(resp), fmt.Errorf("%s: registry has %d bytes under the name of %d", d.Digest, n, d.Size))
	}
	return true, web.Drain(resp)
}
