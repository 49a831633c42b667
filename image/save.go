package image

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/closers"
)

// An ArchiveFormat is a way to put images into one tar.
type ArchiveFormat string

// The formats.
const (
	OCIArchive    ArchiveFormat = "oci-archive"    // images and indexes as they are; "" is this
	DockerArchive ArchiveFormat = "docker-archive" // images of one platform, their layers not compressed
)

// SaveOptions say how to save.
type SaveOptions struct {
	Format      ArchiveFormat
	Platform    *ocispec.Platform // only the image for it, and nothing else of an index; nil is the whole index, and of a DockerArchive this machine's
	Compression *Compression      // OCIArchive: of all layers; nil leaves them, and the manifest's digest, as they are
	Events      event.Sink        // takes the events of blobs, one at a time; may be nil
}

// annotationContainerdName is where containerd and docker look for an image's full name.
const annotationContainerdName = "io.containerd.image.name"

// Save writes images to an archive; see [ArchiveWriter]. The same images give the same bytes. What is written is verified
// on the way: of a damaged store no whole archive comes.
func (l *Layout) Save(ctx context.Context, w io.Writer, images []Named, o SaveOptions) error {
	switch o.Format {
	case OCIArchive, "":
	case DockerArchive:
		o.Compression = &Compression{Algorithm: Uncompressed}
	default:
		return fmt.Errorf("archive format %q is not known: there are %s and %s", Clip(string(o.Format)), OCIArchive, DockerArchive)
	}
	images = slices.Clone(images)
	slices.SortStableFunc(images, compareNamed)
	a := NewArchiveWriter(w)
	for _, n := range images {
		if err := l.saveOne(ctx, a, n, o); err != nil {
			return fmt.Errorf("image %s: %w", n.displayName(), err)
		}
	}
	return a.Close()
}

func (l *Layout) saveOne(ctx context.Context, a *ArchiveWriter, n Named, o SaveOptions) error {
	d, err := l.SaveTo(ctx, a, n, o)
	if err != nil {
		return err
	}
	return a.Tag(ctx, n.Reference, d)
}

// SaveTo writes an image, or an index with those of its images that are here, to another store, without a name, and returns what stands for it
// there.
func (l *Layout) SaveTo(ctx context.Context, to Store, n Named, o SaveOptions) (ocispec.Descriptor, error) {
	d, err := l.saved(ctx, n.Descriptor, o)
	if err != nil {
		return d, err
	}
	parts, err := l.collect(ctx, d, o.Compression)
	if err != nil {
		return d, err
	}
	for _, blob := range parts.blobs {
		if err := l.saveBlob(ctx, to, blob, o.Events); err != nil {
			return d, fmt.Errorf("%s %s: %w", Noun(blob.MediaType), blob.Digest, err)
		}
	}
	for _, m := range parts.manifests {
		if err := to.PushManifest(ctx, Reference{}, m, m.Data); err != nil {
			return d, err
		}
	}
	return parts.top, nil
}

// saved is what is saved of d: the image for one platform, or all.
func (l *Layout) saved(ctx context.Context, d ocispec.Descriptor, o SaveOptions) (ocispec.Descriptor, error) {
	if o.Platform == nil && o.Format != DockerArchive {
		return d, nil
	}
	read := l.Image
	if o.Platform != nil {
		read = func(ctx context.Context, d ocispec.Descriptor, p *ocispec.Platform) (*Image, error) {
			return l.ImageFor(ctx, d, *p)
		}
	}
	img, err := read(ctx, d, o.Platform)
	if err != nil {
		return d, err
	}
	return img.Descriptor, nil
}

func (l *Layout) saveBlob(ctx context.Context, a Store, d ocispec.Descriptor, events event.Sink) error {
	meter := &Meter{Events: events, Blob: d}
	_, err := a.Push(ctx, d, Content{Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		r, err := l.Fetch(ctx, d, offset)
		if err != nil {
			return nil, err
		}
		return closers.Reader{Reader: io.TeeReader(r, meter), Closer: r}, nil
	}})
	if err != nil {
		return err
	}
	state := event.Copied
	if meter.Bytes < d.Size {
		state = event.Exists // an image before this one has it, too
	}
	meter.Report(state)
	return nil
}

// displayName is what to call an image in a message.
func (n Named) displayName() string {
	return cmp.Or(n.Reference.String(), string(n.Descriptor.Digest))
}

// parts are what an image, or an index with those of its images that are here, consists of.
type parts struct {
	top       ocispec.Descriptor
	blobs     []ocispec.Descriptor // layers and configurations
	manifests []ocispec.Descriptor // with their bytes as Data, each after what it names
}

// maxDocuments bounds the manifests of an index that are held in memory, in bytes.
const maxDocuments = 64 << 20

// withData is d with its bytes.
func withData(d ocispec.Descriptor, raw []byte) ocispec.Descriptor {
	d.Data = raw
	return d
}

// collect reads all documents of an image and, if c is not nil, replaces its layers by their compressed forms.
func (l *Layout) collect(ctx context.Context, d ocispec.Descriptor, c *Compression) (p parts, err error) {
	doc, raw, err := ReadDocument(ctx, l, d)
	if err != nil {
		return p, err
	}
	d.MediaType = doc.MediaType
	if !doc.IsIndex() {
		return l.collectManifest(ctx, d, doc, raw, c)
	}
	changed, size, tops := false, 0, map[string]ocispec.Descriptor{}
	for i, child := range doc.Manifests {
		if here, err := l.Has(child); err != nil {
			return p, err
		} else if !here {
			continue
		}
		key := fmt.Sprint(child.MediaType, " ", child.Digest, " ", isAttestation(child))
		top, ok := tops[key] // an index may name one many times
		if !ok {
			of, err := l.collectChild(ctx, child, c)
			if err != nil {
				return p, err
			}
			for _, m := range of.manifests {
				if size += len(m.Data); size > maxDocuments {
					return p, fmt.Errorf("index %s: its manifests are longer than %d bytes", d.Digest, maxDocuments)
				}
			}
			p.blobs, p.manifests = append(p.blobs, of.blobs...), append(p.manifests, of.manifests...)
			top, tops[key] = of.top, of.top
		}
		changed = changed || top.Digest != child.Digest
		doc.Manifests[i].Digest, doc.Manifests[i].Size, doc.Manifests[i].MediaType = top.Digest, top.Size, top.MediaType
	}
	if changed {
		if raw, d, err = NewIndex(doc.Manifests, doc.Annotations); err != nil {
			return p, err
		}
	}
	p.top = d
	p.manifests = append(p.manifests, withData(d, raw))
	return p, nil
}

// collectChild is collect for what an index names, of which only images are read: what else there is is passed on if it
// is a small document.
func (l *Layout) collectChild(ctx context.Context, d ocispec.Descriptor, c *Compression) (p parts, err error) {
	if !isManifest(d.MediaType) || isAttestation(d) {
		return parts{top: d, blobs: []ocispec.Descriptor{d}}, nil
	}
	doc, raw, err := ReadDocument(ctx, l, d)
	if err != nil {
		return p, err
	}
	return l.collectManifest(ctx, d, doc, raw, c)
}

func (l *Layout) collectManifest(ctx context.Context, d ocispec.Descriptor, doc *Document, raw []byte, c *Compression) (p parts, err error) {
	img, err := readImage(ctx, l, d, doc)
	if err != nil {
		return p, err
	}
	layers := img.Manifest.Layers
	if c != nil {
		layers = make([]ocispec.Descriptor, len(layers))
		changed := false
		for i, layer := range img.Layers() {
			if layers[i], err = l.compress(ctx, layer, *c); err != nil {
				return p, err
			}
			changed = changed || layers[i].Digest != layer.Blob.Digest
		}
		if changed {
			if raw, d, err = Repack(img.Manifest, layers); err != nil {
				return p, err
			}
		}
	}
	return parts{d, append(slices.Clone(layers), img.Manifest.Config), []ocispec.Descriptor{withData(d, raw)}}, nil
}

// Repack is an OCI manifest like m with the same layers in other forms, and its descriptor.
func Repack(m ocispec.Manifest, layers []ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	m.SchemaVersion, m.MediaType = 2, ocispec.MediaTypeImageManifest
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	m.Layers = slices.Clone(layers)
	for i := range m.Layers {
		m.Layers[i].MediaType = ociLayerType(m.Layers[i].MediaType)
	}
	raw, err := json.Marshal(m)
	return raw, describe(m.MediaType, raw), err
}

// describe is the descriptor of data.
func describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}
