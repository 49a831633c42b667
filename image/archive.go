package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on archives of images.
const (
	maxArchiveEntries = 100_000
	maxArchiveName    = 4096     // bytes
	maxArchiveNames   = 32 << 20 // bytes of all names
)

// manifestFile is the index of docker's archives.
const manifestFile = "manifest.json"

// A dockerItem is one image in manifest.json of a docker archive.
type dockerItem struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// An archiveFile is a regular file of an archive: where it lies in the tar, or the blob that has been made of it.
type archiveFile struct {
	offset, size int64
	blob         digest.Digest
}

// archiveNames are what an archive of images, OCI or docker, holds, under clean names.
type archiveNames struct {
	files map[string]archiveFile
	links map[string]string
	have  archiveContent
}

// archiveConfigs are configurations of docker's that were read, by their names: many images may have one.
type archiveConfigs map[string]archiveConfig

type archiveConfig struct {
	ocispec.Descriptor
	layers int // that it names
}

// config reads a configuration, unless it is known. It adds to what is.
func (a *archiveNames) config(ctx context.Context, item dockerItem, known archiveConfigs) (archiveConfig, error) {
	c, ok := known[item.Config]
	if ok && c.layers == len(item.Layers) {
		return c, nil
	}
	raw, err := a.document(ctx, item.Config)
	if err != nil {
		return c, err
	}
	if _, err := ParseConfig(raw, newManifest(len(item.Layers), nil)); err != nil {
		return c, fmt.Errorf("archive: %s: %w", Clip(item.Config), err)
	}
	c.layers = len(item.Layers)
	if c.Descriptor, err = a.have.keep(ctx, ocispec.MediaTypeImageConfig, raw); err == nil {
		known[item.Config] = c
	}
	return c, err
}

// archiveContent is how the files of an archive are read. It is given what [archiveNames] found.
type archiveContent interface {
	small(ctx context.Context, f archiveFile) ([]byte, error)                               // at most MaxManifestSize bytes
	layer(ctx context.Context, f archiveFile) (d ocispec.Descriptor, magic []byte, _ error) // without a media type
	keep(ctx context.Context, mediaType string, data []byte) (ocispec.Descriptor, error)    // a document that the archive lacks
}

// readNames reads a tar to its end. Each regular file is given to file, whose answer is remembered.
func readNames(ctx context.Context, r io.Reader, have archiveContent, file func(name string, size int64, r io.Reader) (archiveFile, error)) (*archiveNames, error) {
	a := &archiveNames{files: map[string]archiveFile{}, links: map[string]string{}, have: have}
	t, names := tar.NewReader(r), 0
	for n := 0; ; n++ {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		h, err := t.Next()
		switch {
		case err == io.EOF && n > 0:
			return a, nil
		case err == io.EOF:
			return nil, errors.New("archive is empty")
		case err != nil:
			return nil, fmt.Errorf("archive: is not a whole tar: %w", err)
		case n == maxArchiveEntries:
			return nil, fmt.Errorf("archive has more than %d entries: it is no archive of images", maxArchiveEntries)
		case len(h.Name) > maxArchiveName || len(h.Linkname) > maxArchiveName:
			return nil, fmt.Errorf("archive has a name of more than %d bytes", maxArchiveName)
		}
		if names += len(h.Name) + len(h.Linkname); names > maxArchiveNames {
			return nil, fmt.Errorf("archive has names of more than %d bytes in all", maxArchiveNames)
		}
		name := clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if a.files[name], err = file(name, h.Size, t); err != nil {
				return nil, fmt.Errorf("archive: %s: %w", Clip(name), err)
			}
		case tar.TypeLink:
			a.links[name] = clean(h.Linkname)
		case tar.TypeSymlink: // docker's for a layer that is in the archive already
			a.links[name] = clean(path.Join(path.Dir(name), h.Linkname))
		}
	}
}

// clean is a name relative to the archive's root, which ".." does not leave.
func clean(name string) string { return path.Clean("/" + name)[1:] }

// find finds a file by a name that the archive says, through links.
func (a *archiveNames) find(name string) (archiveFile, error) {
	at := clean(name)
	for range 10 {
		if f, ok := a.files[at]; ok {
			return f, nil
		}
		next, ok := a.links[at]
		if !ok {
			break
		}
		at = next
	}
	return archiveFile{}, fmt.Errorf("archive has no %s: %w", Clip(name), fs.ErrNotExist)
}

func (a *archiveNames) document(ctx context.Context, name string) ([]byte, error) {
	f, err := a.find(name)
	if err != nil {
		return nil, err
	}
	data, err := a.have.small(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("archive: %s: %w", Clip(name), err)
	}
	return data, nil
}

// format reports which kind of archive this is. Of one that is both, it is prefer.
func (a *archiveNames) format(prefer ArchiveFormat) (ArchiveFormat, error) {
	_, oci := a.files[ocispec.ImageIndexFile]
	_, docker := a.files[manifestFile]
	switch {
	case oci && (prefer == OCIArchive || !docker):
		return OCIArchive, nil
	case docker:
		return DockerArchive, nil
	}
	return "", errors.New("is no archive of images: it has neither index.json nor manifest.json")
}

// index reads index.json.
func (a *archiveNames) index(ctx context.Context) (ocispec.Index, error) {
	data, err := a.document(ctx, ocispec.ImageIndexFile)
	if err != nil {
		return ocispec.Index{}, err
	}
	x, err := ParseIndex(data, "")
	if err != nil {
		return x, fmt.Errorf("archive: index.json: %w", err)
	}
	return x, nil
}

// items reads manifest.json.
func (a *archiveNames) items(ctx context.Context) ([]dockerItem, error) {
	data, err := a.document(ctx, manifestFile)
	if err != nil {
		return nil, err
	}
	var items []dockerItem
	if err := json.Unmarshal(data, &items); err != nil {
		return nil, fmt.Errorf("archive: manifest.json: %w", err)
	}
	names := 0
	for _, item := range items {
		names += max(1, len(item.RepoTags))
	}
	if names > MaxReferences {
		return nil, fmt.Errorf("archive names %d images, more than %d", names, MaxReferences)
	}
	return items, nil
}

// manifest makes the manifest that an image of a docker archive does without.
func (a *archiveNames) manifest(ctx context.Context, item dockerItem, known archiveConfigs) (d ocispec.Descriptor, err error) {
	if len(item.Layers) > MaxLayers {
		return d, fmt.Errorf("archive: %s: has %d layers, more than %d", Clip(item.Config), len(item.Layers), MaxLayers)
	}
	config, err := a.config(ctx, item, known)
	if err != nil {
		return d, err
	}
	m := newManifest(len(item.Layers), nil)
	m.Config = config.Descriptor
	for i, name := range item.Layers {
		f, err := a.find(name)
		if err != nil {
			return d, err
		}
		var magic []byte
		if m.Layers[i], magic, err = a.have.layer(ctx, f); err != nil {
			return d, fmt.Errorf("archive: %s: %w", Clip(name), err)
		}
		m.Layers[i].MediaType = layerType(magic)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return d, err
	}
	return a.have.keep(ctx, m.MediaType, raw)
}

// layerType is the media type of a layer that begins with magic.
func layerType(magic []byte) string {
	switch {
	case !isLayerCompression(magic):
		return ocispec.MediaTypeImageLayer
	case bytes.HasPrefix(magic, []byte{0x1f}):
		return ocispec.MediaTypeImageLayerGzip
	}
	return ocispec.MediaTypeImageLayerZstd
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

// blobDigest is the digest in the name of a blob of an OCI archive.
func blobDigest(name string) (digest.Digest, bool) {
	hex, ok := strings.CutPrefix(name, ocispec.ImageBlobsDir+"/sha256/")
	return digest.Digest("sha256:" + hex), ok
}
