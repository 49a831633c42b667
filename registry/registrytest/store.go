package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// A Memory is an image.Store in memory. Safe for concurrent use.
type Memory struct {
	mu    sync.Mutex
	blobs map[digest.Digest][]byte
	tags  map[string]ocispec.Descriptor
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{blobs: map[digest.Digest][]byte{}, tags: map[string]ocispec.Descriptor{}}
}

// Fetch opens a blob.
func (m *Memory) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw, ok := m.blobs[d.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: %w", d.Digest, fs.ErrNotExist)
	}
	return image.Bytes(raw).Open(ctx, offset)
}

// Exists reports whether a blob is here.
func (m *Memory) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.blobs[d.Digest]
	return ok, nil
}

// Push stores a blob.
func (m *Memory) Push(ctx context.Context, d ocispec.Descriptor, content image.Content) (_ ocispec.Descriptor, err error) {
	r, err := content.Open(ctx, 0)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	raw, err := io.ReadAll(image.Verify(r, d))
	if err != nil {
		return d, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d.Digest] = raw
	return d, nil
}

// PushManifest stores a manifest and names it.
func (m *Memory) PushManifest(ctx context.Context, ref image.Reference, d ocispec.Descriptor, raw []byte) error {
	if _, err := m.Push(ctx, d, image.Bytes(raw)); err != nil || ref == (image.Reference{}) {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tags[ref.String()] = d
	return nil
}

// Resolve finds what a name stands for.
func (m *Memory) Resolve(_ context.Context, r image.Reference) (ocispec.Descriptor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.tags[r.String()]
	if !ok {
		return d, fmt.Errorf("%s: %w", r, fs.ErrNotExist)
	}
	return d, nil
}

// Len is how many blobs there are.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.blobs)
}

// Add stores bytes and returns their descriptor.
func (m *Memory) Add(mediaType string, raw []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d.Digest] = raw
	return d
}

// AddJSON stores a document and returns its descriptor.
func (m *Memory) AddJSON(t testing.TB, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return m.Add(mediaType, raw)
}

// Tar makes a layer of one file of size bytes that depend on seed and do not compress.
func Tar(t testing.TB, name string, seed uint64, size int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	body := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = rng.Read(body)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size), Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Gzip compresses.
func Gzip(t testing.TB, raw []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// AddImage stores an image for platform with layers of size bytes, gzipped unless plain, and returns its manifest.
func (m *Memory) AddImage(t testing.TB, seed uint64, p ocispec.Platform, plain bool, sizes ...int) ocispec.Descriptor {
	t.Helper()
	config := ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers"}}
	man := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i, size := range sizes {
		raw := Tar(t, fmt.Sprintf("file%d", i), seed+uint64(i), size)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(raw))
		if plain {
			man.Layers = append(man.Layers, m.Add(ocispec.MediaTypeImageLayer, raw))
			continue
		}
		man.Layers = append(man.Layers, m.Add(ocispec.MediaTypeImageLayerGzip, Gzip(t, raw)))
	}
	man.Config = m.AddJSON(t, ocispec.MediaTypeImageConfig, config)
	d := m.AddJSON(t, man.MediaType, man)
	d.Platform = &p
	return d
}

// AddIndex stores an index of manifests.
func (m *Memory) AddIndex(t testing.TB, manifests ...ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	return m.AddJSON(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
	})
}
