package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/internal/web"
)

// PushOptions say how to push. The zero value compresses by gzip.
type PushOptions struct {
	Compression image.Compression  // of layers that are stored as tars
	Recompress  bool               // compress layers anew that have another form than that
	Platforms   []ocispec.Platform // which images of an index; none is all that are here
	Concurrency int                // blobs on their way at once; 0 is 3
	Events      event.Sink         // takes the events of blobs, one at a time; may be nil
}

// Push sends an image, or an index with those of its images that are here, to the repository and names it ref, which is a
// reference of that repository. It returns the descriptor of what it pushed, which differs from d where layers had to be
// compressed.
func Push(
	ctx context.Context, repo *Repository, src Store, d ocispec.Descriptor, ref image.Reference, opts PushOptions,
) (ocispec.Descriptor, error) {
	if !image.IsIndex(d.MediaType) {
		img, err := src.Image(ctx, d, nil)
		if err != nil {
			return d, err
		}
		return PushImage(ctx, repo, src, img, ref, opts)
	}
	raw, err := image.ReadSmall(ctx, src, d)
	if err != nil {
		return d, err
	}
	doc, err := image.ParseDocument(raw, d.MediaType)
	if err != nil {
		return d, fmt.Errorf("%s: %w", d.Digest, err)
	}
	c := &copier{opts: CopyOptions{Platforms: opts.Platforms}}
	chosen, err := c.choose(d, doc)
	if err != nil {
		return d, err
	}
	same := len(chosen) == len(doc.Manifests)
	pushed := chosen[:0:0]
	for _, one := range chosen {
		got, err := pushPart(ctx, repo, src, one, opts)
		if errors.Is(err, fs.ErrNotExist) && opts.Platforms == nil {
			same = false // an index of which not all was pulled
			continue
		}
		if err != nil {
			return d, err
		}
		same = same && got.Digest == one.Digest
		got.Platform, got.Annotations = one.Platform, one.Annotations
		pushed = append(pushed, got)
	}
	if len(pushed) == 0 {
		return d, fmt.Errorf("index %s: none of its images is here: %w", d.Digest, fs.ErrNotExist)
	}
	if len(pushed) == 1 && len(doc.Manifests) > 1 {
		one := pushed[0] // as docker does where only one platform's image is here
		one.Platform, one.Annotations = nil, nil
		return one, repo.Tag(ctx, ref, one)
	}
	if !same {
		if raw, d, err = image.NewIndex(pushed, doc.Annotations); err != nil {
			return d, err
		}
	}
	return d, repo.putManifest(ctx, d, raw, tagOr(ref, d))
}

// pushPart pushes an image of an index, which has no name of its own.
func pushPart(ctx context.Context, repo *Repository, src Store, d ocispec.Descriptor, opts PushOptions) (ocispec.Descriptor, error) {
	if have, err := src.Exists(ctx, d); err != nil || !have {
		return d, errors.Join(err, fmt.Errorf("manifest %s: %w", d.Digest, fs.ErrNotExist))
	}
	if image.IsIndex(d.MediaType) {
		return d, fmt.Errorf("index %s: is part of another index, which cannot be pushed", d.Digest)
	}
	img, err := src.Image(ctx, d, nil)
	if err != nil {
		return d, err
	}
	return PushImage(ctx, repo, src, img, image.Reference{}, opts)
}

func tagOr(ref image.Reference, d ocispec.Descriptor) string {
	if ref.Tag != "" {
		return ref.Tag
	}
	return d.Digest.String()
}

// PushImage sends an image to the repository and names it ref; the zero Reference pushes it by digest only. Layers that are
// stored as tars are compressed while they are sent, and the manifest that is pushed names the compressed forms; where
// nothing has to be compressed, the manifest is pushed byte for byte. What the image now under that name has is taken to be
// there, so that pushing after a small change asks for nothing else.
func PushImage(
	ctx context.Context, repo *Repository, src Store, img *image.Image, ref image.Reference, opts PushOptions,
) (ocispec.Descriptor, error) {
	if opts.Concurrency <= 0 {
		opts.Concurrency = 3
	}
	p := &pusher{
		repo: repo, src: src, img: img, opts: opts, slots: make(chan struct{}, opts.Concurrency),
		rep: &reporter{events: opts.Events}, there: map[digest.Digest]bool{}, makers: make(chan struct{}, makersFor(opts.Compression)),
	}
	if err := p.lookAtName(ctx, ref); err != nil {
		return img.Descriptor, err
	}
	d, err := p.push(ctx, ref)
	if len(p.there) > 0 && hasCode(err, "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_INVALID") {
		// The registry has lost what an image of it names. Ask for everything.
		clear(p.there)
		p.prior = ""
		d, err = p.push(ctx, ref)
	}
	return d, err
}

// A pusher is one PushImage.
type pusher struct {
	repo  *Repository
	src   Store
	img   *image.Image
	opts  PushOptions
	slots chan struct{} // one for each blob on its way
	rep   *reporter
	prior digest.Digest          // what the name stands for now
	there map[digest.Digest]bool // what that names
	finder

	makers chan struct{} // one for each layer that is being compressed
}

// lookAtName finds out what the repository has under the name already. It is also the first request, which fails where the
// registry is dead or we may not push.
func (p *pusher) lookAtName(ctx context.Context, ref image.Reference) error {
	if ref.Tag == "" {
		return nil
	}
	e := p.repo.home()
	d, raw, err := p.repo.getManifestFor(ctx, e, ref.String(), ref.Tag, e.push())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && (!answered(err) && !isConn(err)):
		return nil // something that we cannot read, which is about to be replaced
	case err != nil:
		return err
	}
	doc, err := image.ParseDocument(raw, d.MediaType)
	if err != nil || image.IsIndex(d.MediaType) {
		return nil
	}
	p.prior = d.Digest
	for _, child := range doc.Children() {
		p.there[child.Digest] = true
	}
	return nil
}

func isConn(err error) bool {
	var ce *web.ConnError
	return errors.As(err, &ce) || errors.Is(err, web.ErrRefused) || errors.Is(err, errPlain)
}

// push sends layers and configuration, then the manifest.
func (p *pusher) push(ctx context.Context, ref image.Reference) (ocispec.Descriptor, error) {
	sent, err := p.sendAll(ctx)
	if err != nil {
		return p.img.Descriptor, err
	}
	d, raw, err := p.manifest(ctx, sent)
	if err != nil || d.Digest == p.prior {
		return d, err
	}
	if err := failpoint.At("registry.push.before-manifest"); err != nil {
		return d, err
	}
	if err := p.repo.putManifest(ctx, d, raw, tagOr(ref, d)); err != nil {
		return d, err
	}
	p.rep.report(d, event.Copied, d.Size)
	return d, nil
}

// sendAll sends the layers, at once and each once, and the configuration, and returns the layers as they were sent.
func (p *pusher) sendAll(ctx context.Context) ([]ocispec.Descriptor, error) {
	layers := p.img.Layers()
	for _, l := range layers {
		if image.IsForeign(l.Blob.MediaType) {
			return nil, fmt.Errorf("layer %s %w", l.Blob.Digest, errForeign)
		}
	}
	sent, first := make([]ocispec.Descriptor, len(layers)), map[digest.Digest]int{}
	g, gctx := errgroup.WithContext(ctx)
	for i, l := range layers {
		if _, ok := first[l.Blob.Digest]; ok {
			continue
		}
		first[l.Blob.Digest] = i
		g.Go(func() (err error) {
			if sent[i], err = p.layer(gctx, l); err != nil {
				return fmt.Errorf("layer %s: %w", l.DiffID, err)
			}
			return nil
		})
	}
	g.Go(func() error { return p.config(gctx) })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, l := range layers {
		sent[i] = sent[first[l.Blob.Digest]]
	}
	return sent, nil
}

// config sends the configuration. It is small and mostly new: asking whether it is there would cost what sending it does.
func (p *pusher) config(ctx context.Context) error {
	d := p.img.Manifest.Config
	if p.there[d.Digest] {
		return nil
	}
	raw := p.img.RawConfig
	_, err := p.repo.upload(ctx, d, func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw[offset:])), nil
	}, "")
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}

// manifest makes the manifest of the image with its layers as they were sent.
func (p *pusher) manifest(ctx context.Context, sent []ocispec.Descriptor) (ocispec.Descriptor, []byte, error) {
	same := true
	for i, d := range sent {
		same = same && d.Digest == p.img.Manifest.Layers[i].Digest
	}
	if same {
		raw, err := image.ReadSmall(ctx, p.src, p.img.Descriptor)
		return p.img.Descriptor, raw, err
	}
	layers := make([]ocispec.Descriptor, len(sent))
	for i, d := range sent {
		d.Annotations = p.img.Manifest.Layers[i].Annotations
		layers[i] = d
	}
	raw, d, err := image.Repack(p.img.Manifest, layers)
	d.Platform = p.img.Descriptor.Platform
	return d, raw, err
}
