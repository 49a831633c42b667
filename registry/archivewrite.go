package registry

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
)

// An archive is being written: an OCI layout in a tar that is also what docker load and podman load read.
type archive struct {
	kind, tag string
	f         *durable.File

	mu        sync.Mutex // one file at a time; guards what is below
	w         *tar.Writer
	has       map[digest.Digest]bool
	manifests map[digest.Digest][]byte
	dirs      map[string]bool
	broken    error // after it, nothing more can be written
}

// writeArchive begins an archive: beside its final path if that is a file, else, as for a pipe, in place.
func writeArchive(ctx context.Context, e Endpoint) (*writing, error) {
	a := &archive{
		kind: e.Kind, tag: e.Tag,
		has: map[digest.Digest]bool{}, manifests: map[digest.Digest][]byte{}, dirs: map[string]bool{},
	}
	var err error
	if a.f, err = durable.Output(ctx, e.Path); err != nil {
		return nil, err
	}
	a.w = tar.NewWriter(a.f)
	if err := a.file(ocispec.ImageLayoutFile, layoutHeader()); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return &writing{Pusher: a, finish: a.finish, close: a.close}, nil
}

// Exists tells whether a blob has been written.
func (a *archive) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.has[d.Digest], nil
}

func blobName(d digest.Digest) string { return ocispec.ImageBlobsDir + "/sha256/" + d.Encoded() }

// Push appends a blob.
func (a *archive) Push(_ context.Context, d ocispec.Descriptor, r io.Reader) error {
	if err := image.CheckDescriptor(d); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.has[d.Digest] || a.broken != nil {
		return a.broken
	}
	r = image.Verify(r, d)
	if image.IsDocument(d.MediaType) {
		raw, err := io.ReadAll(io.LimitReader(r, maxDocument))
		if err != nil {
			return err
		}
		a.manifests[d.Digest] = raw
		a.has[d.Digest] = true
		return a.file(blobName(d.Digest), raw)
	}
	if a.broken = a.header(blobName(d.Digest), d.Size); a.broken != nil {
		return a.broken
	}
	if _, a.broken = io.CopyBuffer(a.w, r, make([]byte, 256<<10)); a.broken != nil {
		return a.broken
	}
	a.has[d.Digest] = true
	return nil
}

// header begins a file, after the directories that it is in. Times are zero: the same image makes the same archive.
func (a *archive) header(name string, size int64) error {
	for i := range name {
		if name[i] != '/' || a.dirs[name[:i]] {
			continue
		}
		a.dirs[name[:i]] = true
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

func (a *archive) file(name string, raw []byte) error {
	if err := a.header(name, int64(len(raw))); err != nil {
		return err
	}
	_, err := a.w.Write(raw)
	return err
}

// A dockerManifest is an entry of an archive's manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// finish writes the indexes of both kinds of archive and puts the file in its place.
func (a *archive) finish(_ context.Context, root ocispec.Descriptor) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{plainRoot(root, a.refName())},
	})
	if err != nil {
		return err
	}
	if err := a.file(ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	if err := a.dockerIndex(root); err != nil {
		return err
	}
	if err := a.w.Close(); err != nil {
		return err
	}
	return a.f.Commit()
}

// refName is the name in the OCI index: of a docker-archive, whose names are whole references, the tag of that.
func (a *archive) refName() string {
	if a.kind != "docker-archive" || a.tag == "" {
		return a.tag
	}
	ref, err := image.ParseReference(a.tag)
	if err != nil {
		return a.tag
	}
	return ref.Tag
}

// dockerIndex writes manifest.json, if root is one image of layers.
func (a *archive) dockerIndex(root ocispec.Descriptor) error {
	raw := a.manifests[root.Digest]
	if image.IsIndex(root.MediaType) || raw == nil {
		return nil
	}
	doc, err := image.ParseDocument(raw, root.MediaType)
	if err != nil {
		return err
	}
	m := dockerManifest{Config: blobName(doc.Config.Digest), RepoTags: []string{}, Layers: []string{}}
	for _, l := range doc.Layers {
		m.Layers = append(m.Layers, blobName(l.Digest))
	}
	if a.kind == "docker-archive" && a.tag != "" {
		ref, err := image.ParseReference(a.tag)
		if err != nil {
			return err
		}
		m.RepoTags = append(m.RepoTags, ref.Familiar())
	}
	out, err := json.Marshal([]dockerManifest{m})
	if err != nil {
		return err
	}
	return a.file("manifest.json", out)
}

// close discards the archive unless it was finished.
func (a *archive) close() error {
	return a.f.Close()
}
