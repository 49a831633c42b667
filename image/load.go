package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/failpoint"
)

// LoadOptions say how to load. The zero value works.
type LoadOptions struct {
	Platform *ocispec.Platform // only the image for it, which a name then stands for; nil is all that the archive has
	Events   event.Sink        // takes the events of layers, one at a time; may be nil
}

// Load reads an archive of images, OCI or docker, compressed or not, names what it holds and returns the names. It is one
// pass over r, which is not trusted: every blob is held to its digest, every layer to its diffID, and only then is
// anything named.
func (l *Layout) Load(ctx context.Context, r io.Reader, o LoadOptions) ([]Named, error) {
	ld := &loader{layout: l, events: o.Events, platform: o.Platform, keepers: map[digest.Digest]bool{}}
	images, err := ld.load(ctx, r)
	if err != nil {
		clear(ld.keepers)
	}
	// Before anything is named: with that, all that is staged is published.
	if err := errors.Join(err, ld.discard()); err != nil {
		return nil, err
	}
	if err := failpoint.At("image.load.before-name"); err != nil {
		return nil, err
	}
	return images, l.TagAll(ctx, images...)
}

// A loader stores the files of an archive as blobs of a layout.
type loader struct {
	layout   *Layout
	events   event.Sink
	platform *ocispec.Platform
	keepers  map[digest.Digest]bool // blobs that belong to an image

	mu     sync.Mutex
	staged []digest.Digest // blobs that this archive brought
}

func (ld *loader) load(ctx context.Context, r io.Reader) ([]Named, error) {
	z, _, err := Inflate(r)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	// All files are stored. Which they are is known only when manifest.json or index.json is there, and that may be at the end.
	a, err := readNames(ctx, z, ld, func(name string, size int64, r io.Reader) (archiveFile, error) {
		return ld.store(ctx, name, size, r)
	})
	if err != nil {
		return nil, err
	}
	// What others wait to write, and the compressor's checksum, come after the end of the tar.
	if _, err := io.Copy(io.Discard, z); err != nil {
		return nil, err
	}
	format, err := a.format(OCIArchive)
	if err != nil {
		return nil, err
	}
	open := openOCI
	if format == DockerArchive {
		open = openDocker
	}
	images, err := open(ctx, a)
	if err == nil && len(images) == 0 {
		err = errors.New("archive holds no image")
	}
	if err != nil {
		return nil, err
	}
	if err := ld.choose(ctx, images); err != nil {
		return nil, err
	}
	return images, ld.verify(ctx, images)
}

// choose puts the image for the platform that was asked for in the place of each index.
func (ld *loader) choose(ctx context.Context, images []Named) error {
	if ld.platform == nil {
		return nil
	}
	chosen := map[digest.Digest]ocispec.Descriptor{} // an archive may name one image many times
	for i, n := range images {
		d, ok := chosen[n.Descriptor.Digest]
		if !ok {
			img, err := ld.layout.ImageFor(ctx, n.Descriptor, *ld.platform)
			if err != nil {
				return fmt.Errorf("image %s: %w", n.displayName(), err)
			}
			d = img.Descriptor
			chosen[n.Descriptor.Digest] = d
		}
		images[i].Descriptor = d
	}
	return nil
}

// store keeps a file as the blob that it is.
func (ld *loader) store(ctx context.Context, name string, size int64, r io.Reader) (f archiveFile, err error) {
	d, isBlob := blobDigest(name)
	content := bufio.NewReaderSize(r, int(min(size, bufSize))) // an archive may have very many small files
	meter, err := ld.meter(content, name, size)
	if err != nil {
		return f, err
	}
	if isBlob {
		if here, err := ld.layout.Exists(ctx, ocispec.Descriptor{Digest: d, Size: max(size, 1)}); here || err != nil {
			meter.Report(event.Exists)
			return archiveFile{size: size, blob: d}, err
		}
	}
	out, err := ld.layout.staging.Create()
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := ld.layout.output(ctx, out)
	if size <= bufSize {
		_, err = content.WriteTo(io.MultiWriter(w, meter))
	} else {
		err = copyAhead(io.MultiWriter(w, meter), content)
	}
	if err != nil {
		return f, err
	}
	meter.Report(event.Copied)
	f = archiveFile{size: size, blob: sumDigest(w.hash)}
	if isBlob && f.blob != d {
		return f, fmt.Errorf("content has digest %s", f.blob)
	}
	if here, err := ld.layout.Exists(ctx, ocispec.Descriptor{Digest: f.blob}); here || err != nil {
		return f, err
	}
	ld.brought(f.blob)
	return f, out.Commit(ld.layout.BlobPath(f.blob))
}

// meter shows how a file comes in. What is no layer but a document has one that sends nothing.
func (ld *loader) meter(content *bufio.Reader, name string, size int64) (*Meter, error) {
	magic, err := content.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(magic) == 0 || magic[0] == '{' || magic[0] == '[' {
		return &Meter{}, nil
	}
	d := ocispec.Descriptor{MediaType: layerType(magic), Digest: digest.Digest("file:" + name), Size: size}
	if sum, ok := blobDigest(name); ok {
		d.Digest = sum
	}
	return &Meter{Events: ld.events, Blob: d}, nil
}

func (ld *loader) brought(d digest.Digest) {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	ld.staged = append(ld.staged, d)
}

// small implements archiveContent.
func (ld *loader) small(ctx context.Context, f archiveFile) ([]byte, error) {
	return ReadSmall(ctx, ld.layout, ocispec.Descriptor{Digest: f.blob, Size: f.size})
}

// layer implements archiveContent.
func (ld *loader) layer(_ context.Context, f archiveFile) (ocispec.Descriptor, []byte, error) {
	d := ocispec.Descriptor{Digest: f.blob, Size: f.size}
	blob, err := ld.layout.OpenBlob(f.blob)
	if err != nil {
		return d, nil, err
	}
	magic := make([]byte, 4)
	n, err := io.ReadFull(blob, magic)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return d, magic[:n], errors.Join(err, blob.Close())
}

// keep implements archiveContent.
func (ld *loader) keep(ctx context.Context, mediaType string, data []byte) (ocispec.Descriptor, error) {
	d := describe(mediaType, data)
	if here, err := ld.layout.Exists(ctx, d); here || err != nil {
		return d, err
	}
	ld.brought(d.Digest)
	return ld.layout.Push(ctx, d, Bytes(data))
}

// openOCI lists what index.json names.
func openOCI(ctx context.Context, a *archiveNames) ([]Named, error) {
	x, err := a.index(ctx)
	if err != nil {
		return nil, err
	}
	var images []Named
	for _, d := range x.Manifests {
		if IsDocument(d.MediaType) {
			images = append(images, Named{Reference: nameOf(d.Annotations), Descriptor: d})
		}
	}
	return images, nil
}

// openDocker lists what manifest.json names, and makes a manifest for each image.
func openDocker(ctx context.Context, a *archiveNames) ([]Named, error) {
	items, err := a.items(ctx)
	if err != nil {
		return nil, err
	}
	var images []Named
	made, known := map[string]ocispec.Descriptor{}, archiveConfigs{}
	for _, item := range items {
		key := strings.Join(append([]string{item.Config}, item.Layers...), "\x00")
		d, ok := made[key]
		if !ok {
			if d, err = a.manifest(ctx, item, known); err != nil {
				return nil, err
			}
			made[key] = d
		}
		if len(item.RepoTags) == 0 {
			images = append(images, Named{Descriptor: d})
		}
		for _, name := range item.RepoTags {
			r, err := ParseReference(name)
			if err != nil {
				return nil, fmt.Errorf("archive: manifest.json: %w", err)
			}
			images = append(images, Named{Reference: r, Descriptor: d})
		}
	}
	return images, nil
}

// verify makes sure that each image is whole and that its layers hold what its configuration says. It finds out what
// belongs to the images, and reads what several have once.
func (ld *loader) verify(ctx context.Context, images []Named) error {
	ids, had, reached := map[digest.Digest]digest.Digest{}, newSeen(), newReach(ld.layout)
	reached.configs = had.configs
	for i, n := range images {
		if id, ok := ids[n.Descriptor.Digest]; ok {
			images[i].ID = id
			continue
		}
		id, err := ld.layout.wholeBut(ctx, n.Descriptor, had)
		if err != nil {
			return fmt.Errorf("image %s: %w", n.displayName(), err)
		}
		images[i].ID, ids[n.Descriptor.Digest] = id, id
		if err := reached.from(ctx, n.Descriptor); err != nil {
			return err
		}
	}
	maps.Copy(ld.keepers, reached.blobs)
	return ld.prove(ctx, reached.layers)
}

// prove makes sure that layers hold what their configurations say.
func (ld *loader) prove(ctx context.Context, all []Layer) error {
	layers := map[digest.Digest]Layer{}
	var claims []Layer // what blobs are said to hold that are not inflated here
	for _, layer := range all {
		here, err := ld.layout.Exists(ctx, ocispec.Descriptor{Digest: layer.DiffID})
		if err != nil {
			return err
		}
		if other, ok := layers[layer.DiffID]; here || ok && other.Blob.Digest != layer.Blob.Digest {
			claims = append(claims, layer)
			continue
		}
		layers[layer.DiffID] = layer
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, layer := range layers {
		g.Go(func() error {
			f, err := ld.layout.OpenTar(gctx, layer)
			if err != nil {
				return err
			}
			ld.brought(layer.DiffID)
			return f.Close()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ld.layout.Prove(ctx, claims)
}

// discard removes what was staged and belongs to no image.
func (ld *loader) discard() error {
	var paths []string
	for _, d := range ld.staged {
		if !ld.keepers[d] {
			paths = append(paths, ld.layout.BlobPath(d))
		}
	}
	return ld.layout.staging.Discard(paths...)
}
