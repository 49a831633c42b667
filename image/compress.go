package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// An Algorithm compresses layers.
type Algorithm string

// The algorithms.
const (
	Uncompressed Algorithm = "none"
	Gzip         Algorithm = "gzip"
	Zstd         Algorithm = "zstd"
	EStargz      Algorithm = "estargz" // by [Layout.EStargz] only: it makes another layer
)

// A Compression is a form in which a layer may be passed on. The same layer comes out the same on any machine, whatever
// its number of cores.
type Compression struct {
	Algorithm Algorithm // "" is Gzip
	Level     int       // gzip 1…9, zstd 1…22; 0 is the one that was used of a layer before, or else 7 and 1
	Keep      bool      // CompressTo: store the blob, too
}

// format is part of what is remembered. It changes when the same algorithm and level begin to give other bytes.
func (c Compression) format() int {
	if c.Algorithm == Gzip && c.Level >= slowest {
		return 3
	}
	return 2
}

// gzipLevels are those that a layer may have which was compressed without a wish for one: today's, and the one of before.
func gzipLevels() []int { return []int{7, 1} }

// ParseCompression reads an algorithm and a level as people give them.
func ParseCompression(algorithm string, level int) (Compression, error) {
	c := Compression{Algorithm: Algorithm(algorithm), Level: level}
	return c, c.check()
}

func (c Compression) check() error {
	most := 0
	switch c.Algorithm {
	case Gzip, "":
		most = 9
	case Zstd:
		most = 22
	case Uncompressed:
	case EStargz:
		most = 9
	default:
		return fmt.Errorf("compression %q is not known: there are gzip, zstd, estargz and none", Clip(string(c.Algorithm)))
	}
	if c.Level < 0 || c.Level > most {
		return fmt.Errorf("compression level %d: %s has 1 to %d, and 0 for the default", c.Level, c.normal().Algorithm, most)
	}
	return nil
}

// normal spells out the defaults.
func (c Compression) normal() Compression {
	if c.Algorithm == "" {
		c.Algorithm = Gzip
	}
	switch {
	case c.Level != 0 || c.Algorithm == Uncompressed:
	case c.Algorithm == Gzip:
		c.Level = gzipLevels()[0]
	default:
		c.Level = 1
	}
	return c
}

// usual is c.normal, but a layer for which no level is asked keeps the one that it had before: a registry has that form.
func (l *Layout) usual(diffID digest.Digest, c Compression) Compression {
	if c.Level != 0 || c.normal().Algorithm != Gzip || CheckDigest(diffID) != nil {
		return c.normal()
	}
	for _, c.Level = range gzipLevels() {
		if _, err := readCompressed(l.compressedPath(diffID, c.normal())); err == nil {
			return c.normal()
		}
	}
	c.Level = 0
	return c.normal()
}

func (c Compression) mediaType() string {
	switch c.Algorithm {
	case Zstd:
		return ocispec.MediaTypeImageLayerZstd
	case Uncompressed:
		return ocispec.MediaTypeImageLayer
	}
	return ocispec.MediaTypeImageLayerGzip
}

// Compressed finds the compressed form of a layer that is remembered. Its blob may be here or not: it is known to be
// what CompressTo would write. Of a layer that already has this form, that is the answer, level or no level.
func (l *Layout) Compressed(layer Layer, c Compression) (ocispec.Descriptor, bool) {
	c = l.usual(layer.DiffID, c)
	if ociLayerType(layer.Blob.MediaType) == c.mediaType() {
		return layer.Blob, true
	}
	if CheckDigest(layer.DiffID) != nil {
		return ocispec.Descriptor{}, false
	}
	if c.Algorithm == Uncompressed {
		size, err := l.blobSize(layer.DiffID)
		return ocispec.Descriptor{MediaType: c.mediaType(), Digest: layer.DiffID, Size: size}, err == nil
	}
	r, err := readCompressed(l.compressedPath(layer.DiffID, c))
	if err != nil {
		return ocispec.Descriptor{}, false // none, torn, or of another time
	}
	return r.Blob, r.Blob.MediaType == c.mediaType()
}

// A compressedRecord is a file in compressed/.
type compressedRecord struct {
	Format int                `json:"format"`
	DiffID digest.Digest      `json:"diffID"`
	Blob   ocispec.Descriptor `json:"blob"`
	Sum    string             `json:"sum"` // of the record without it
}

func (r compressedRecord) sum() string {
	r.Sum = ""
	return checksum(r)
}

// readCompressed reads a record and makes sure that it is what was written, and of the layer that its file is named for.
func readCompressed(path string) (r compressedRecord, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, err
	}
	hex, c := parseCompressed(filepath.Base(path))
	if r.Sum != r.sum() || string(r.DiffID) != "sha256:"+hex {
		return r, errors.New("is not what was written")
	}
	if r.Format != c.format() {
		return r, fmt.Errorf("of another version of forge: %w", fs.ErrNotExist)
	}
	return r, CheckDescriptor(r.Blob)
}

func (l *Layout) compressedPath(diffID digest.Digest, c Compression) string {
	return l.path("compressed", fmt.Sprintf("%s.%s.%d", diffID.Encoded(), c.Algorithm, c.Level))
}

// parseCompressed reads the name of a record.
func parseCompressed(name string) (hex string, c Compression) {
	hex, form, _ := strings.Cut(name, ".")
	algorithm, level, _ := strings.Cut(form, ".")
	c.Algorithm = Algorithm(algorithm)
	c.Level, _ = strconv.Atoi(level)
	return hex, c
}

// remember writes a record. It is not synced: a torn one is not believed and costs a compression.
func (l *Layout) remember(diffID digest.Digest, c Compression, blob ocispec.Descriptor) error {
	r := compressedRecord{Format: c.format(), DiffID: diffID, Blob: blob}
	r.Sum = r.sum()
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := l.compressedPath(diffID, c)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := failpoint.At("image.remember.before-rename"); err != nil {
		return err
	}
	return durable.ReplaceFile(path, data, 0o600)
}

// compress makes sure that the layer's compressed form is in the store and describes it.
func (l *Layout) compress(ctx context.Context, layer Layer, c Compression) (ocispec.Descriptor, error) {
	if d, ok := l.Compressed(layer, c); ok {
		if here, err := l.Exists(ctx, d); here || err != nil {
			return d, err
		}
	}
	c.Keep = true
	return l.CompressTo(ctx, io.Discard, nil, layer, c)
}

// CompressTo writes the layer's compressed form to w while it is made, and remembers it. The tar is verified on the way:
// if it is damaged, CompressTo fails and remembers nothing, but w has got what there was. Without c.Keep nothing but the
// descriptor is stored. m, unless it is nil, counts what is written, and what is read of the tar.
func (l *Layout) CompressTo(ctx context.Context, w io.Writer, m *Meter, layer Layer, c Compression) (d ocispec.Descriptor, err error) {
	if err := c.check(); err != nil {
		return d, err
	}
	if c.Algorithm == EStargz {
		return d, errors.New("compression estargz: makes other layers, and is for push only")
	}
	tar, err := l.OpenTar(ctx, layer)
	if err != nil {
		return d, err
	}
	defer tar.Close()
	info, err := tar.Stat()
	if err != nil {
		return d, err
	}
	return l.CompressFrom(ctx, w, m, Tar{tar, layer.DiffID, info.Size()}, c)
}

// A Tar is the tar of a layer, which may come from elsewhere.
type Tar struct {
	io.Reader
	DiffID digest.Digest
	Size   int64 // bytes
}

// CompressFrom is [Layout.CompressTo] of a layer whose tar is not here.
func (l *Layout) CompressFrom(ctx context.Context, w io.Writer, m *Meter, tar Tar, c Compression) (d ocispec.Descriptor, err error) {
	c = l.usual(tar.DiffID, c)
	source := Verify(tar, ocispec.Descriptor{Digest: tar.DiffID, Size: tar.Size})
	if m != nil {
		m.Length = tar.Size
		w, source = io.MultiWriter(w, m), m.reading(source)
	}
	out := &output{ctx: ctx, w: w, hash: sha256.New()}
	var f *StagedFile
	if c.Keep && c.Algorithm != Uncompressed { // whose blob is the tar
		if f, err = l.staging.Create(); err != nil {
			return d, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out.w, out.free, out.dir = io.MultiWriter(f, w), l.free, l.root
	}
	if err := c.compress(ctx, out, source); err != nil {
		return d, fmt.Errorf("layer %s: %w", tar.DiffID, err)
	}
	d = ocispec.Descriptor{MediaType: c.mediaType(), Digest: sumDigest(out.hash), Size: out.n}
	if f != nil {
		if err := f.Commit(l.BlobPath(d.Digest)); err != nil {
			return d, err
		}
	}
	if c.Algorithm == Uncompressed {
		return d, nil
	}
	return d, l.remember(tar.DiffID, c, d)
}

// Deflate writes the compressed form of what r holds to w: the same bytes each time.
func (c Compression) Deflate(ctx context.Context, w io.Writer, r io.Reader) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.normal().compress(ctx, w, r)
}

// compress writes the compressed form of r, read to its end, to w.
func (c Compression) compress(ctx context.Context, w io.Writer, r io.Reader) error {
	switch c.Algorithm {
	case Uncompressed:
		return copyAhead(w, r)
	case Zstd:
		return compressZstd(ctx, w, r, c.Level)
	}
	return compressGzip(ctx, w, r, c.Level)
}
