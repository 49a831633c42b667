package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

// layer makes sure that the repository has a layer, and returns the form in which it has it.
func (p *pusher) layer(ctx context.Context, l image.Layer) (ocispec.Descriptor, error) {
	source, ok := p.src.(LayerSource)
	form, known := l.Blob, true
	if ok && p.toCompress(l) {
		form, known = source.Compressed(l, p.opts.Compression)
	}
	if known {
		return form, p.known(ctx, l, form)
	}
	select {
	case p.makers <- struct{}{}:
	case <-ctx.Done():
		return form, ctx.Err()
	}
	// The next layer need not wait for the registry to have done with this one.
	made := sync.OnceFunc(func() { <-p.makers })
	defer made()
	if err := p.take(ctx); err != nil {
		return form, err
	}
	defer p.give()
	shown := ocispec.Descriptor{MediaType: l.Blob.MediaType, Digest: l.DiffID, Size: -1}
	p.rep.report(shown, event.Copying, 0)
	m := &meter{rep: p.rep, d: shown}
	form, err := p.repo.stream(ctx, l.DiffID.String(), func(ctx context.Context, w io.Writer) (ocispec.Descriptor, error) {
		defer made()
		return source.CompressTo(ctx, m.writer(w), l, p.opts.Compression)
	})
	if err != nil {
		return form, err
	}
	shown.Size = form.Size
	p.rep.report(shown, event.Copied, form.Size)
	return form, nil
}

// makersFor is how many layers to compress at once. One compressor keeps all cores busy; a second one fills its pauses, where
// it does not take much memory.
func makersFor(c image.Compression) int {
	if c.Algorithm == image.Zstd {
		return 1
	}
	return 2
}

// toCompress tells whether a layer is to be sent in another form than it is stored in.
func (p *pusher) toCompress(l image.Layer) bool {
	if p.opts.Compression.Algorithm == image.Uncompressed {
		return p.opts.Recompress && !image.IsTar(l.Blob.MediaType)
	}
	return image.IsTar(l.Blob.MediaType) || p.opts.Recompress
}

// known sends a layer's form whose digest is known, unless it is there.
func (p *pusher) known(ctx context.Context, l image.Layer, d ocispec.Descriptor) error {
	if p.there[d.Digest] {
		p.rep.report(d, event.Exists, d.Size)
		return nil
	}
	have, err := p.repo.Exists(ctx, d)
	if err != nil {
		return err
	}
	if have {
		p.rep.report(d, event.Exists, d.Size)
		return nil
	}
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.give()
	p.rep.report(d, event.Copying, 0)
	mounted, err := p.repo.upload(ctx, d, metered(p.open(l, d), &meter{rep: p.rep, d: d}), p.mountFrom(ctx, l))
	if err != nil {
		return err
	}
	if mounted {
		p.rep.report(d, event.Mounted, d.Size)
		return nil
	}
	p.rep.report(d, event.Copied, d.Size)
	return nil
}

// open opens the form d of a layer: the blob if it is here, else it is made again.
func (p *pusher) open(l image.Layer, d ocispec.Descriptor) source {
	return func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		r, err := sourceOf(p.src, d)(ctx, offset)
		maker, ok := p.src.(LayerSource)
		if !errors.Is(err, fs.ErrNotExist) || !ok || d.Digest == l.Blob.Digest {
			return r, err
		}
		return startMaking(ctx, func(ctx context.Context, w io.Writer) (ocispec.Descriptor, error) {
			got, err := maker.CompressTo(ctx, w, l, p.opts.Compression)
			if err == nil && got.Digest != d.Digest {
				err = fmt.Errorf("compressing gave %s where it gave %s before", got.Digest, d.Digest)
			}
			return got, err
		}, offset), nil
	}
}

func (p *pusher) take(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pusher) give() { <-p.slots }

// A lister knows all images of a store; *image.Layout does.
type lister interface {
	List(ctx context.Context) ([]image.Named, error)
}

// mountFrom names a repository of the same registry that may have a layer: one that a local image with the layer is named
// for. A wrong guess costs nothing, for the registry then answers as if it had not been asked.
func (p *pusher) mountFrom(ctx context.Context, l image.Layer) string {
	p.once.Do(func() { p.where = p.localRepositories(ctx) })
	return p.where[l.DiffID]
}

// localRepositories maps layers to the repositories, other than the one that is pushed to, that local images have them in.
func (p *pusher) localRepositories(ctx context.Context) map[digest.Digest]string {
	where := map[digest.Digest]string{}
	store, ok := p.src.(lister)
	if !ok {
		return where
	}
	all, err := store.List(ctx)
	if err != nil {
		return where // it was only a guess
	}
	for _, n := range all {
		if n.Reference.Domain != p.repo.ref.Domain || n.Reference.Path == p.repo.ref.Path || len(where) > maxReferences {
			continue
		}
		img, err := p.src.Image(ctx, n.Descriptor, nil)
		if err != nil {
			continue
		}
		for _, l := range img.Layers() {
			where[l.DiffID] = n.Reference.Path
		}
	}
	return where
}

// A finder remembers where layers may be mounted from.
type finder struct {
	once  sync.Once
	where map[digest.Digest]string
}
