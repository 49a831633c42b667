package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/internal/failpoint"
)

// Limits for archives of images.
const (
	maxArchiveEntries = 100_000
	maxArchiveName    = 4096 // bytes
	maxArchiveImages  = 1000
)

// Load reads an archive of images, OCI or docker, compressed or not, names what it holds and returns the names. It is one
// pass over r, which is not trusted: every blob is held to its digest, every layer to its diffID, and only then is
// anything named.
func (l *Layout) Load(ctx context.Context, r io.Reader) ([]Named, error) {
	ld := &loader{layout: l, files: map[string]ocispec.Descriptor{}, links: map[string]string{}, keep: map[digest.Digest]bool{}}
	images, err := ld.load(ctx, r)
	if err != nil {
		clear(ld.keep)
	}
	// Before anything is named: with that, all that is staged is published.
	if err := errors.Join(err, ld.discard()); err != nil {
		return nil, err
	}
	return images, ld.name(ctx, images)
}

// A loader keeps what was met in an archive, under clean names.
type loader struct {
	layout *Layout
	files  map[string]ocispec.Descriptor // regular files, stored by their content
	links  map[string]string
	keep   map[digest.Digest]bool // blobs that belong to an image

	mu     sync.Mutex
	staged []digest.Digest // blobs that this archive brought
}

func (ld *loader) load(ctx context.Context, r io.Reader) ([]Named, error) {
	z, _, err := Inflate(r)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	if err := ld.read(ctx, z); err != nil {
		return nil, err
	}
	// What others wait to write, and the compressor's checksum, come after the end of the tar.
	if _, err := io.Copy(io.Discard, z); err != nil {
		return nil, err
	}
	_, isLayout := ld.files[ocispec.ImageLayoutFile]
	_, isDocker := ld.files["manifest.json"]
	var images []Named
	switch {
	case isLayout:
		images, err = ld.openOCI(ctx)
	case isDocker:
		images, err = ld.openDocker(ctx)
	default:
		return nil, errors.New("is no archive of images: it has neither oci-layout nor manifest.json")
	}
	if err == nil && len(images) == 0 {
		err = errors.New("archive holds no image")
	}
	if err != nil {
		return nil, err
	}
	return images, ld.verify(ctx, images)
}

// read stores all files of the archive. Which they are is known only when manifest.json or index.json is there, and that
// may be at the end.
func (ld *loader) read(ctx context.Context, r io.Reader) error {
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		switch {
		case err == io.EOF && n > 0:
			return nil
		case err == io.EOF:
			return errors.New("archive is empty")
		case err != nil:
			return fmt.Errorf("archive: %w", err)
		case n == maxArchiveEntries:
			return fmt.Errorf("archive has more than %d entries", maxArchiveEntries)
		case len(h.Name) > maxArchiveName || len(h.Linkname) > maxArchiveName:
			return fmt.Errorf("archive: name of more than %d bytes", maxArchiveName)
		}
		name := clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			d, err := ld.store(ctx, name, h.Size, t)
			if err != nil {
				return fmt.Errorf("archive: %s: %w", clip(name), err)
			}
			ld.files[name] = d
		case tar.TypeLink:
			ld.links[name] = clean(h.Linkname)
		case tar.TypeSymlink: // docker's for a layer that is in the archive already
			ld.links[name] = clean(path.Join(path.Dir(name), h.Linkname))
		}
	}
}

// clean is a name relative to the archive's root, which ".." does not leave.
func clean(name string) string { return path.Clean("/" + name)[1:] }

// store keeps a file as the blob that it is.
func (ld *loader) store(ctx context.Context, name string, size int64, r io.Reader) (d ocispec.Descriptor, err error) {
	d.Size = size
	hex, isBlob := strings.CutPrefix(name, ocispec.ImageBlobsDir+"/sha256/")
	if isBlob {
		d.Digest = digest.Digest("sha256:" + hex)
		if here, err := ld.layout.Exists(ctx, ocispec.Descriptor{Digest: d.Digest, Size: max(size, 1)}); here || err != nil {
			return d, err
		}
	}
	f, err := ld.layout.staging.Create()
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := sha256.New()
	if err := copyAhead(io.MultiWriter(hash, &guarded{ctx: ctx, w: f, free: ld.layout.free, dir: ld.layout.root}), r); err != nil {
		return d, err
	}
	got := sumDigest(hash)
	if isBlob && got != d.Digest {
		return d, fmt.Errorf("content has digest %s", got)
	}
	d.Digest = got
	if here, err := ld.layout.Exists(ctx, ocispec.Descriptor{Digest: got}); here || err != nil {
		return d, err
	}
	ld.brought(got)
	return d, f.Commit(ld.layout.BlobPath(got))
}

func (ld *loader) brought(d digest.Digest) {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	ld.staged = append(ld.staged, d)
}

// file finds a file by a name that the archive says, through links.
func (ld *loader) file(name string) (ocispec.Descriptor, error) {
	at := clean(name)
	for range 10 {
		if d, ok := ld.files[at]; ok {
			return d, nil
		}
		next, ok := ld.links[at]
		if !ok {
			break
		}
		at = next
	}
	return ocispec.Descriptor{}, fmt.Errorf("archive has no %s: %w", clip(name), fs.ErrNotExist)
}

func (ld *loader) document(ctx context.Context, name string) ([]byte, error) {
	d, err := ld.file(name)
	if err != nil {
		return nil, err
	}
	data, err := ReadSmall(ctx, ld.layout, d)
	if err != nil {
		return nil, fmt.Errorf("archive: %s: %w", name, err)
	}
	return data, nil
}

// openOCI reads what index.json names.
func (ld *loader) openOCI(ctx context.Context) ([]Named, error) {
	data, err := ld.document(ctx, ocispec.ImageIndexFile)
	if err != nil {
		return nil, err
	}
	x, err := ParseIndex(data, "")
	if err != nil {
		return nil, fmt.Errorf("archive: index.json: %w", err)
	}
	var images []Named
	for _, d := range x.Manifests {
		if !IsManifest(d.MediaType) && !IsIndex(d.MediaType) {
			continue
		}
		images = append(images, Named{Reference: nameOf(d.Annotations), Descriptor: d})
	}
	if len(images) > maxArchiveImages {
		return nil, fmt.Errorf("archive names %d images, more than %d", len(images), maxArchiveImages)
	}
	return images, nil
}

// nameOf is the name that the annotations in an index give, if one can be read. A bare tag, for which
// org.opencontainers.image.ref.name is there, too, would say nothing without the name of the archive.
func nameOf(annotations map[string]string) Reference {
	for _, key := range []string{annotationContainerdName, ocispec.AnnotationRefName} {
		name := annotations[key]
		if name == "" || name == "latest" {
			continue
		}
		if r, err := ParseReference(name); err == nil {
			return r
		}
	}
	return Reference{}
}

// openDocker reads what manifest.json names and writes a manifest for each image.
func (ld *loader) openDocker(ctx context.Context) ([]Named, error) {
	data, err := ld.document(ctx, "manifest.json")
	if err != nil {
		return nil, err
	}
	var items []dockerItem
	if err := json.Unmarshal(data, &items); err != nil {
		return nil, fmt.Errorf("archive: manifest.json: %w", err)
	}
	if len(items) > maxArchiveImages {
		return nil, fmt.Errorf("archive names %d images, more than %d", len(items), maxArchiveImages)
	}
	var images []Named
	for _, item := range items {
		img, err := ld.dockerImage(ctx, item)
		if err != nil {
			return nil, err
		}
		if len(item.RepoTags) == 0 {
			images = append(images, Named{Descriptor: img.Descriptor})
		}
		for _, name := range item.RepoTags {
			r, err := ParseReference(name)
			if err != nil {
				return nil, fmt.Errorf("archive: manifest.json: %w", err)
			}
			images = append(images, Named{Reference: r, Descriptor: img.Descriptor})
		}
	}
	return images, nil
}

func (ld *loader) dockerImage(ctx context.Context, item dockerItem) (*Image, error) {
	config, err := ld.document(ctx, item.Config)
	if err != nil {
		return nil, err
	}
	if len(item.Layers) > MaxLayers {
		return nil, fmt.Errorf("archive: %s: has %d layers, more than %d", clip(item.Config), len(item.Layers), MaxLayers)
	}
	m := newManifest(len(item.Layers), nil)
	c, err := ParseConfig(config, m)
	if err != nil {
		return nil, fmt.Errorf("archive: %s: %w", clip(item.Config), err)
	}
	for i, name := range item.Layers {
		if m.Layers[i], err = ld.file(name); err != nil {
			return nil, err
		}
		if m.Layers[i].MediaType, err = ld.layout.layerType(m.Layers[i].Digest); err != nil {
			return nil, err
		}
	}
	img, err := ld.layout.writeManifest(m, config, c)
	if err == nil {
		ld.brought(img.Descriptor.Digest)
	}
	return img, err
}

// layerType tells by its first bytes how a layer is compressed.
func (l *Layout) layerType(d digest.Digest) (string, error) {
	f, err := l.OpenBlob(d)
	if err != nil {
		return "", err
	}
	defer f.Close()
	magic := make([]byte, 4)
	n, err := io.ReadFull(f, magic)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	switch magic = magic[:n]; {
	case !isLayerCompression(magic):
		return ocispec.MediaTypeImageLayer, nil
	case magic[0] == 0x1f:
		return ocispec.MediaTypeImageLayerGzip, nil
	}
	return ocispec.MediaTypeImageLayerZstd, nil
}

// verify makes sure that each image is whole and that its layers hold what its configuration says. It finds out what
// belongs to the images.
func (ld *loader) verify(ctx context.Context, images []Named) error {
	layers := map[digest.Digest]Layer{}
	for i, n := range images {
		id, err := ld.layout.whole(ctx, n.Descriptor)
		if err != nil {
			return fmt.Errorf("image %s: %w", n.displayName(), err)
		}
		images[i].ID = id
		reached := newReach(ld.layout)
		if err := reached.from(ctx, n.Descriptor); err != nil {
			return err
		}
		maps.Copy(ld.keep, reached.blobs)
		for _, layer := range reached.layers {
			layers[layer.DiffID] = layer
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, layer := range layers {
		g.Go(func() error {
			if here, err := ld.layout.Exists(ctx, ocispec.Descriptor{Digest: layer.DiffID}); here || err != nil {
				return err
			}
			f, err := ld.layout.OpenTar(ctx, layer)
			if err != nil {
				return err
			}
			ld.brought(layer.DiffID)
			return f.Close()
		})
	}
	return g.Wait()
}

func (ld *loader) name(ctx context.Context, images []Named) error {
	for _, n := range images {
		if err := failpoint.At("image.load.before-name"); err != nil {
			return err
		}
		if err := ld.layout.Tag(ctx, n.Reference, n.Descriptor); err != nil {
			return err
		}
	}
	return nil
}

// discard removes what was staged and belongs to no image.
func (ld *loader) discard() (err error) {
	for _, d := range ld.staged {
		if !ld.keep[d] {
			err = errors.Join(err, ld.layout.staging.Discard(ld.layout.BlobPath(d)))
		}
	}
	return err
}
