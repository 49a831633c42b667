package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An ArchiveWriter is a tar of images while it is written: an OCI image layout with docker's manifest.json beside its
// index.json, as docker has saved images since version 25. docker of all versions, podman and skopeo read it, also with
// several images. It is a [Store] that is only written; files follow each other in the order in which they are pushed, and
// the same order gives the same bytes.
type ArchiveWriter struct {
	mu        sync.Mutex // one file at a time; guards what is below
	w         *tar.Writer
	has       map[string]bool // names of files and directories
	documents map[digest.Digest]*Document
	images    []Named
	broken    error // after it, nothing more can be written
}

// NewArchiveWriter begins an archive. Close ends it.
func NewArchiveWriter(w io.Writer) *ArchiveWriter {
	a := &ArchiveWriter{w: tar.NewWriter(w), has: map[string]bool{}, documents: map[digest.Digest]*Document{}}
	a.broken = a.json(ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	return a
}

func blobName(d digest.Digest) string { return ocispec.ImageBlobsDir + "/sha256/" + d.Encoded() }

// Resolve finds what Tag has named.
func (a *ArchiveWriter) Resolve(_ context.Context, r Reference) (ocispec.Descriptor, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.images {
		if n.Reference == r {
			return n.Descriptor, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("archive has no image %s yet: %w", r, fs.ErrNotExist)
}

// Exists reports whether a blob has been written.
func (a *ArchiveWriter) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.has[blobName(d.Digest)], nil
}

// Fetch is refused: what has been written may have gone through a pipe.
func (a *ArchiveWriter) Fetch(_ context.Context, d ocispec.Descriptor, _ int64) (io.ReadCloser, error) {
	return nil, fmt.Errorf("%s: an archive cannot be read while it is written: %w", d.Digest, errors.ErrUnsupported)
}

// Push appends a blob, whose digest and size have to be known.
func (a *ArchiveWriter) Push(ctx context.Context, d ocispec.Descriptor, content Content) (_ ocispec.Descriptor, err error) {
	if err := CheckDescriptor(d); err != nil {
		return d, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	name := blobName(d.Digest)
	if a.has[name] || a.broken != nil {
		return d, a.unfinished()
	}
	r, err := content.Open(ctx, 0)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if a.broken = a.header(name, d.Size); a.broken == nil {
		a.broken = copyAhead(&output{ctx: ctx, w: a.w}, Verify(r, d))
	}
	a.has[name] = a.broken == nil
	return d, a.broken
}

// unfinished is why nothing more can be written, nil if something can. That is never ErrMismatch, which is told once, when the
// wrong content comes: to give it again would not help, as what has been written stays.
func (a *ArchiveWriter) unfinished() error {
	if errors.Is(a.broken, ErrMismatch) {
		return errors.New("archive holds wrong content and has to be begun again: " + a.broken.Error())
	}
	return a.broken
}

// PushManifest appends a manifest or an index and, unless r is the zero Reference, tags it.
func (a *ArchiveWriter) PushManifest(ctx context.Context, r Reference, d ocispec.Descriptor, raw []byte) error {
	doc, err := ParseDocument(raw, d.MediaType)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	if _, err := a.Push(ctx, d, Bytes(raw)); err != nil {
		return err
	}
	a.mu.Lock()
	a.documents[d.Digest] = doc
	a.mu.Unlock()
	if r == (Reference{}) {
		return nil
	}
	return a.Tag(ctx, r, d)
}

// Tag enters an image into the indexes, without a name if r is the zero Reference.
func (a *ArchiveWriter) Tag(_ context.Context, r Reference, d ocispec.Descriptor) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	d = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}
	a.images = append(a.images, Named{Reference: r, Descriptor: d})
	return nil
}

// Close writes the indexes and the end of the archive. Of images whose names have the same order, archives are the same.
func (a *ArchiveWriter) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != nil {
		return a.unfinished()
	}
	a.broken = errors.New("archive is closed")
	items, err := a.items()
	if err != nil {
		return err
	}
	return errors.Join(a.json(ocispec.ImageIndexFile, a.index()), a.json(manifestFile, items), a.w.Close())
}

// index is index.json. containerd and docker look for full names under an annotation of their own.
func (a *ArchiveWriter) index() ocispec.Index {
	x := indexOf(a.images)
	for i := range x.Manifests {
		notes := x.Manifests[i].Annotations
		if name := notes[ocispec.AnnotationRefName]; strings.Contains(name, "/") {
			notes[annotationContainerdName] = name
		}
	}
	return x
}

// items are manifest.json. Of an index, it is the image for this machine's platform or else the first that was written.
func (a *ArchiveWriter) items() ([]dockerItem, error) {
	items, at := []dockerItem{}, map[digest.Digest]int{}
	for _, n := range a.images {
		doc := a.image(n.Descriptor)
		if doc == nil {
			continue
		}
		i, ok := at[doc.Config.Digest]
		if !ok {
			i = len(items)
			at[doc.Config.Digest] = i
			item := dockerItem{Config: blobName(doc.Config.Digest), RepoTags: []string{}, Layers: []string{}}
			for _, l := range doc.Layers {
				item.Layers = append(item.Layers, blobName(l.Digest))
			}
			items = append(items, item)
		}
		if r := n.Reference; r.Domain != "" && r.Tag != "" { // docker's archives have no place for a digest
			items[i].RepoTags = append(items[i].RepoTags, r.Name()+":"+r.Tag)
		}
	}
	return items, nil
}

// image is the manifest of an image that stands for d, nil if there is none.
func (a *ArchiveWriter) image(d ocispec.Descriptor) *Document {
	doc := a.documents[d.Digest]
	if doc == nil || !doc.IsIndex() {
		if doc == nil || !IsConfig(doc.Config.MediaType) {
			return nil
		}
		return doc
	}
	if child, err := SelectPlatform(ocispec.Index{Manifests: doc.Manifests}, nil); err == nil && a.documents[child.Digest] != nil {
		return a.image(child)
	}
	for _, child := range doc.Manifests {
		if !isAttestation(child) && a.documents[child.Digest] != nil {
			return a.image(child)
		}
	}
	return nil
}

// header begins a file, after the directories that it is in. Times are zero.
func (a *ArchiveWriter) header(name string, size int64) error {
	for i := range name {
		if name[i] != '/' || a.has[name[:i]] {
			continue
		}
		a.has[name[:i]] = true
		h := &tar.Header{Typeflag: tar.TypeDir, Name: name[:i+1], Mode: 0o755, Format: tar.FormatUSTAR}
		if err := a.w.WriteHeader(h); err != nil {
			return err
		}
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}
	if size < 8<<30 {
		h.Format = tar.FormatUSTAR
	}
	return a.w.WriteHeader(h)
}

func (a *ArchiveWriter) json(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := a.header(name, int64(len(data))); err != nil {
		return err
	}
	_, err = a.w.Write(data)
	return err
}
