package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotationTOC is where those who mount eStargz lazily find the digest of the table of contents.
const annotationTOC = estargz.TOCJSONDigestAnnotation

// TOC is the digest of the table of contents of a layer that is eStargz, as its manifest says; "" if it is none.
func TOC(blob ocispec.Descriptor) digest.Digest {
	return digest.Digest(blob.Annotations[annotationTOC])
}

// EStargz makes a layer of the same files whose gzip form can be read file by file from a registry
// (github.com/containerd/stargz-snapshotter, docs/estargz.md). It holds a table of contents that layer does not hold, so
// that it is another layer, with another diffID. Level is of gzip, 1…9; 0 is 1. It is staged, and the same on any machine.
func (l *Layout) EStargz(ctx context.Context, layer Layer, level int) (made Layer, err error) {
	in, err := l.OpenTar(ctx, layer)
	if err != nil {
		return made, err
	}
	defer in.Close()
	f, err := l.staging.Create()
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := l.output(ctx, f)
	w := estargz.NewWriterWithCompressor(out, fastGzip{estargz.NewGzipCompressor(), max(1, level)})
	sum := sha256.New()
	err = errors.Join(w.AppendTar(noPrefetch()), w.AppendTar(io.TeeReader(in, sum)))
	if err != nil {
		return made, fmt.Errorf("layer %s: %w", layer.DiffID, err)
	}
	if _, err := io.Copy(sum, in); err != nil { // what follows the end of the tar
		return made, err
	}
	if got := sumDigest(sum); got != layer.DiffID {
		return made, fmt.Errorf("layer %s is damaged: its tar has digest %s; see forge system fsck", layer.DiffID, got)
	}
	toc, err := w.Close()
	if err != nil {
		return made, err
	}
	made = Layer{
		Blob: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageLayerGzip, Digest: sumDigest(out.hash), Size: out.n,
			Annotations: map[string]string{annotationTOC: toc.String()},
		},
		DiffID: digest.Digest(w.DiffID()),
	}
	return made, f.Commit(l.BlobPath(made.Blob.Digest))
}

// noPrefetch is a tar with the file that says that no file is wanted before the others.
func noPrefetch() io.Reader {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// Writing to memory cannot fail.
	_ = w.WriteHeader(&tar.Header{Name: estargz.NoPrefetchLandmark, Typeflag: tar.TypeReg, Size: 1, Mode: 0o444})
	_, _ = w.Write([]byte{0xf})
	_ = w.Close()
	return &b
}

// fastGzip compresses as the format wants, with the faster compressor.
type fastGzip struct {
	*estargz.GzipCompressor
	level int
}

// Writer implements estargz.Compressor.
func (c fastGzip) Writer(w io.Writer) (estargz.WriteFlushCloser, error) {
	return gzip.NewWriterLevel(w, c.level)
}
