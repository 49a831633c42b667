package registry

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Bounds of archives that hold images; their layers are archives of their own, with bounds of theirs.
const (
	maxArchiveEntries = 100_000
	maxArchiveName    = 4096
)

// A span is where a file's bytes are in an archive.
type span struct{ offset, size int64 }

// An archiveReader reads the blobs of an OCI or Docker archive where they lie.
type archiveReader struct {
	f     *os.File
	files map[string]span
	links map[string]string
	blobs map[digest.Digest]span   // of a Docker archive: those of an OCI archive have names
	made  map[digest.Digest][]byte // a manifest that a Docker archive does without
}

// readArchive opens an archive and finds the image in it.
func readArchive(ctx context.Context, e Endpoint) (_ *reading, err error) {
	f, err := openPlain(e.Path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	a := &archiveReader{
		f: f, files: map[string]span{}, links: map[string]string{}, blobs: map[digest.Digest]span{}, made: map[digest.Digest][]byte{},
	}
	if err := a.scan(ctx); err != nil {
		return nil, err
	}
	root, err := a.root(ctx, e)
	if err != nil {
		return nil, err
	}
	return &reading{Fetcher: a, root: root, close: f.Close}, nil
}

// openPlain opens an archive whose bytes are the tar's: one that is compressed, or comes through a pipe, is first written to
// a temporary file that has no name.
func openPlain(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	magic := make([]byte, 6)
	n := 0
	if st.Mode().IsRegular() {
		if n, err = f.ReadAt(magic, 0); err != nil && err != io.EOF {
			return nil, errors.Join(err, f.Close())
		}
		if !isCompressed(magic[:n]) {
			return f, nil
		}
	}
	defer f.Close()
	return spoolTar(f)
}

func isCompressed(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte{0x1f, 0x8b}) || bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0})
}

func spoolTar(r io.Reader) (_ *os.File, err error) {
	in, err := image.Decompress(bufio.NewReaderSize(r, 256<<10))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	f, err := os.CreateTemp("", "forge-archive-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := io.Copy(f, in); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// scan notes where each file is. Names are only looked up, never opened.
func (a *archiveReader) scan(ctx context.Context) error {
	r := tar.NewReader(a.f)
	for n := 0; ; n++ {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("is not a whole tar archive: %w", err)
		}
		if n > maxArchiveEntries || len(h.Name) > maxArchiveName || len(h.Linkname) > maxArchiveName {
			return errors.New("is no archive of images: too many or too long names")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		name := path.Clean("/" + h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := a.f.Seek(0, io.SeekCurrent) // the reader reads no further than the header
			if err != nil {
				return err
			}
			a.files[name] = span{at, h.Size}
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean("/" + h.Linkname)
		}
	}
}

func (a *archiveReader) find(name string) (span, bool) {
	name = path.Clean("/" + name)
	for range 8 { // links of links
		if s, ok := a.files[name]; ok {
			return s, true
		}
		to, ok := a.links[name]
		if !ok {
			break
		}
		name = to
	}
	return span{}, false
}

func (a *archiveReader) small(name string) ([]byte, error) {
	s, ok := a.find(name)
	if !ok {
		return nil, fmt.Errorf("has no %s: %w", name, fs.ErrNotExist)
	}
	if s.size > maxDocument {
		return nil, fmt.Errorf("%s is longer than 4 MiB", name)
	}
	return io.ReadAll(io.NewSectionReader(a.f, s.offset, s.size))
}

// Fetch opens a blob.
func (a *archiveReader) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := image.CheckDescriptor(d); err != nil {
		return nil, err
	}
	if raw, ok := a.made[d.Digest]; ok {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	s, ok := a.blobs[d.Digest]
	if !ok {
		if s, ok = a.find(blobName(d.Digest)); !ok {
			return nil, fmt.Errorf("archive has no %s: %w", d.Digest, fs.ErrNotExist)
		}
	}
	return verified(io.NopCloser(io.NewSectionReader(a.f, s.offset, s.size)), d), nil
}

// root finds the image: by the OCI index where there is one, else by Docker's.
func (a *archiveReader) root(ctx context.Context, e Endpoint) (ocispec.Descriptor, error) {
	_, oci := a.find(ocispec.ImageIndexFile)
	_, docker := a.find("manifest.json")
	if oci && (e.Kind == "oci-archive" || !docker) {
		raw, err := a.small(ocispec.ImageIndexFile)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		x, err := image.ParseIndex(raw, ocispec.MediaTypeImageIndex)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		return pick(x, e.Tag)
	}
	if !docker {
		return ocispec.Descriptor{}, errors.New("holds neither index.json nor manifest.json: it is no archive of images")
	}
	return a.dockerRoot(ctx, e.Tag)
}

// dockerRoot makes the manifest of an image in a Docker archive.
func (a *archiveReader) dockerRoot(ctx context.Context, name string) (d ocispec.Descriptor, err error) {
	raw, err := a.small("manifest.json")
	if err != nil {
		return d, err
	}
	var all []dockerManifest
	if err := json.Unmarshal(raw, &all); err != nil {
		return d, fmt.Errorf("manifest.json: %w", err)
	}
	one, err := pickDocker(all, name)
	if err != nil {
		return d, err
	}
	config, err := a.small(one.Config)
	if err != nil {
		return d, err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	a.made[m.Config.Digest] = config
	if len(one.Layers) > image.MaxLayers {
		return d, fmt.Errorf("image has %d layers, more than %d", len(one.Layers), image.MaxLayers)
	}
	for _, file := range one.Layers {
		l, err := a.dockerLayer(ctx, file)
		if err != nil {
			return d, err
		}
		m.Layers = append(m.Layers, l)
	}
	if _, err := image.ParseConfig(config, m); err != nil {
		return d, fmt.Errorf("%s: %w", clip(one.Config), err)
	}
	out, err := json.Marshal(m)
	d = ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(out), Size: int64(len(out))}
	a.made[d.Digest] = out
	return d, err
}

func pickDocker(all []dockerManifest, name string) (dockerManifest, error) {
	want := name
	if ref, err := image.ParseReference(name); err == nil {
		want = ref.String()
	}
	var names []string
	for _, m := range all {
		for _, tag := range m.RepoTags {
			names = append(names, tag)
			if ref, err := image.ParseReference(tag); name != "" && err == nil && ref.String() == want {
				return m, nil
			}
		}
	}
	if name == "" && len(all) == 1 {
		return all[0], nil
	}
	if name == "" {
		return dockerManifest{}, fmt.Errorf("holds %d images: say which: %s", len(all), clip(strings.Join(names, ", ")))
	}
	return dockerManifest{}, fmt.Errorf("holds no image %q, only %s", name, clip(strings.Join(names, ", ")))
}

// dockerLayer describes a layer, whose digest nothing in the archive tells.
func (a *archiveReader) dockerLayer(ctx context.Context, file string) (d ocispec.Descriptor, err error) {
	s, ok := a.find(file)
	if !ok {
		return d, fmt.Errorf("has no layer %q: %w", clip(file), fs.ErrNotExist)
	}
	h := sha256.New()
	buf := make([]byte, 256<<10)
	r := io.NewSectionReader(a.f, s.offset, s.size)
	d.MediaType = ocispec.MediaTypeImageLayer
	for at := int64(0); at < s.size; {
		if ctx.Err() != nil {
			return d, ctx.Err()
		}
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), s.size-at)])
		if err != nil {
			return d, fmt.Errorf("layer %q: %w", clip(file), noEOF(err))
		}
		switch {
		case at > 0:
		case bytes.HasPrefix(buf[:n], []byte{0x1f, 0x8b}):
			d.MediaType = ocispec.MediaTypeImageLayerGzip
		case bytes.HasPrefix(buf[:n], []byte{0x28, 0xb5, 0x2f, 0xfd}):
			d.MediaType = ocispec.MediaTypeImageLayerZstd
		}
		h.Write(buf[:n])
		at += int64(n)
	}
	d.Digest, d.Size = digest.NewDigestFromBytes(digest.SHA256, h.Sum(nil)), s.size
	a.blobs[d.Digest] = s
	return d, nil
}
