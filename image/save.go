package image

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An ArchiveFormat is a way to put images into one tar.
type ArchiveFormat string

// The formats.
const (
	OCIArchive    ArchiveFormat = "oci-archive"    // an OCI image layout; "" is this
	DockerArchive ArchiveFormat = "docker-archive" // what docker save wrote before it wrote layouts
)

// SaveOptions say how to save.
type SaveOptions struct {
	Format      ArchiveFormat
	Platform    *ocispec.Platform // DockerArchive: which image of an index; nil is this machine's
	Compression *Compression      // OCIArchive: of all layers; nil leaves them, and the manifest's digest, as they are
}

// annotationContainerdName is where containerd and docker look for an image's full name.
const annotationContainerdName = "io.containerd.image.name"

// Save writes images to an archive. The same images give the same bytes. What is written is verified on the way: of a
// damaged store no whole archive comes.
func (l *Layout) Save(ctx context.Context, w io.Writer, images []Named, o SaveOptions) error {
	t := &archive{w: tar.NewWriter(w), layout: l, done: map[string]bool{}}
	images = slices.Clone(images)
	slices.SortStableFunc(images, compareNamed)
	var err error
	switch o.Format {
	case OCIArchive, "":
		err = t.saveOCI(ctx, images, o)
	case DockerArchive:
		err = t.saveDocker(ctx, images, o)
	default:
		err = fmt.Errorf("archive format %q is not known: there are %s and %s", clip(string(o.Format)), OCIArchive, DockerArchive)
	}
	if err != nil {
		return err
	}
	return t.w.Close()
}

// An archive is a tar being written, each name once.
type archive struct {
	w      *tar.Writer
	layout *Layout
	done   map[string]bool
}

func (a *archive) header(name string, size int64) error {
	return a.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644})
}

func (a *archive) file(name string, data []byte) error {
	if a.done[name] {
		return nil
	}
	a.done[name] = true
	if err := a.header(name, int64(len(data))); err != nil {
		return err
	}
	_, err := a.w.Write(data)
	return err
}

func (a *archive) json(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.file(name, data)
}

// blob copies a blob of the store, verifying it.
func (a *archive) blob(ctx context.Context, name string, d ocispec.Descriptor) (err error) {
	if a.done[name] {
		return nil
	}
	a.done[name] = true
	r, err := a.layout.Fetch(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := a.header(name, d.Size); err != nil {
		return err
	}
	return copyAhead(&counter{ctx: ctx, w: a.w, hash: digest.SHA256.Hash()}, r)
}

func blobName(d digest.Digest) string { return ocispec.ImageBlobsDir + "/sha256/" + d.Encoded() }

// saveOCI writes what is small first, so that a reader of the stream knows all about the layers before they come.
func (a *archive) saveOCI(ctx context.Context, images []Named, o SaveOptions) error {
	var documents [][]byte
	var layers []ocispec.Descriptor
	saved := slices.Clone(images)
	for i, n := range images {
		parts, err := a.layout.collect(ctx, n.Descriptor, o.Compression)
		if err != nil {
			return fmt.Errorf("image %s: %w", n.displayName(), err)
		}
		documents = append(documents, parts.documents...)
		layers = append(layers, parts.layers...)
		saved[i].Descriptor = parts.top
	}
	index := indexOf(saved)
	for i := range index.Manifests {
		if name := index.Manifests[i].Annotations[ocispec.AnnotationRefName]; name != "" {
			index.Manifests[i].Annotations[annotationContainerdName] = name
		}
	}
	err := errors.Join(
		a.json(ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}),
		a.json(ocispec.ImageIndexFile, index))
	for _, data := range documents {
		err = errors.Join(err, a.file(blobName(digest.FromBytes(data)), data))
	}
	if err != nil {
		return err
	}
	for _, d := range layers {
		if err := a.blob(ctx, blobName(d.Digest), d); err != nil {
			return fmt.Errorf("layer %s: %w", d.Digest, err)
		}
	}
	return nil
}

// displayName is what to call an image in a message.
func (n Named) displayName() string {
	return cmp.Or(n.Reference.String(), string(n.Descriptor.Digest))
}

// parts are the blobs that an image, or an index with those of its images that are here, consists of.
type parts struct {
	top       ocispec.Descriptor
	documents [][]byte // indexes, manifests, configurations
	layers    []ocispec.Descriptor
}

// collect reads all documents of an image and, if c is not nil, replaces its layers by their compressed forms.
func (l *Layout) collect(ctx context.Context, d ocispec.Descriptor, c *Compression) (p parts, err error) {
	doc, raw, err := ReadDocument(ctx, l, d)
	if err != nil {
		return p, err
	}
	if !doc.IsIndex() {
		return l.collectManifest(ctx, d, doc, raw, c)
	}
	x, err := doc.Index()
	if err != nil {
		return p, err
	}
	for i, child := range x.Manifests {
		if here, err := l.Has(child); err != nil {
			return p, err
		} else if !here {
			continue
		}
		of, err := l.collectChild(ctx, child, c)
		if err != nil {
			return p, err
		}
		p.documents = append(p.documents, of.documents...)
		p.layers = append(p.layers, of.layers...)
		x.Manifests[i].Digest, x.Manifests[i].Size, x.Manifests[i].MediaType = of.top.Digest, of.top.Size, of.top.MediaType
	}
	if c != nil {
		x.MediaType = ocispec.MediaTypeImageIndex
		if raw, err = json.Marshal(x); err != nil {
			return p, err
		}
	}
	p.top = Describe(d.MediaType, raw)
	if c != nil {
		p.top.MediaType = x.MediaType
	}
	p.documents = append(p.documents, raw)
	return p, nil
}

// collectChild is collect for what an index names, of which only images are read: what else there is is passed on if it
// is a small document.
func (l *Layout) collectChild(ctx context.Context, d ocispec.Descriptor, c *Compression) (p parts, err error) {
	if IsManifest(d.MediaType) && !isAttestation(d) {
		doc, raw, err := ReadDocument(ctx, l, d)
		if err != nil {
			return p, err
		}
		return l.collectManifest(ctx, d, doc, raw, c)
	}
	raw, err := ReadSmall(ctx, l, d)
	return parts{top: d, documents: [][]byte{raw}}, err
}

func (l *Layout) collectManifest(ctx context.Context, d ocispec.Descriptor, doc *Document, raw []byte, c *Compression) (p parts, err error) {
	m, err := doc.Manifest()
	if err != nil {
		return p, err
	}
	config, err := ReadSmall(ctx, l, m.Config)
	if err != nil {
		return p, err
	}
	parsed, err := ParseConfig(config, m)
	if err != nil {
		return p, err
	}
	if c != nil {
		layers := make([]ocispec.Descriptor, len(m.Layers))
		for i, blob := range m.Layers {
			if layers[i], err = l.Compress(ctx, Layer{blob, parsed.RootFS.DiffIDs[i]}, *c); err != nil {
				return p, err
			}
		}
		if raw, d, err = Repack(m, layers); err != nil {
			return p, err
		}
		m.Layers = layers
	}
	return parts{d, [][]byte{config, raw}, m.Layers}, nil
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
	return raw, Describe(m.MediaType, raw), err
}

// Describe is the descriptor of data.
func Describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// A dockerItem is one image in manifest.json of a docker archive.
type dockerItem struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// saveDocker writes configurations and uncompressed layers, under the names that skopeo gives them, and manifest.json.
func (a *archive) saveDocker(ctx context.Context, images []Named, o SaveOptions) error {
	var items []dockerItem
	byID := map[digest.Digest]int{}
	for _, n := range images {
		img, err := a.layout.Image(ctx, n.Descriptor, o.Platform)
		if err != nil {
			return fmt.Errorf("image %s: %w", n.displayName(), err)
		}
		i, ok := byID[img.ID()]
		if !ok {
			i = len(items)
			byID[img.ID()] = i
			items = append(items, dockerItem{Config: img.ID().Encoded() + ".json", RepoTags: []string{}, Layers: []string{}})
			if err := a.file(items[i].Config, img.RawConfig); err != nil {
				return err
			}
			for _, layer := range img.Layers() {
				name := layer.DiffID.Encoded() + ".tar"
				items[i].Layers = append(items[i].Layers, name)
				if err := a.tar(ctx, name, layer); err != nil {
					return fmt.Errorf("layer %s: %w", layer.DiffID, err)
				}
			}
		}
		if n.Reference.Tag != "" { // the format has no place for a digest
			items[i].RepoTags = append(items[i].RepoTags, n.Reference.Name()+":"+n.Reference.Tag)
		}
	}
	return a.json("manifest.json", items)
}

// tar copies a layer's tar, verifying it.
func (a *archive) tar(ctx context.Context, name string, layer Layer) error {
	f, err := a.layout.OpenTar(ctx, layer)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return a.blob(ctx, name, ocispec.Descriptor{Digest: layer.DiffID, Size: info.Size()})
}
