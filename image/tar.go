package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/forge-build/forge/internal/flock"
)

const (
	maxZstdWindow = 128 << 20 // bytes of memory that a frame may ask for
	bufSize       = 256 << 10
)

// OpenTar makes sure that the uncompressed tar of the layer is here (inflating its blob if need be) and opens it. Of
// callers that want the same tar at the same time, in this process or another, one does the work. fs.ErrNotExist if
// neither the tar nor its blob is here.
func (l *Layout) OpenTar(ctx context.Context, layer Layer) (*os.File, error) {
	f, err := l.OpenBlob(layer.DiffID)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	blob, err := l.OpenBlob(layer.Blob.Digest)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", layer.DiffID, err)
	}
	defer blob.Close()
	// The lock is on the blob itself: every process that could do the work has it open, and no lock file is left behind.
	if err := flock.Wait(ctx, blob, flock.Exclusive); err != nil {
		return nil, err
	}
	if ok, err := l.staging.adopt(l.BlobPath(layer.DiffID)); err != nil || ok {
		if err == nil {
			f, err = l.OpenBlob(layer.DiffID)
		}
		return f, err
	}
	if err := l.inflate(ctx, layer, bufio.NewReaderSize(blob, bufSize), nil); err != nil {
		return nil, fmt.Errorf("layer %s: %w", layer.Blob.Digest, err)
	}
	return l.OpenBlob(layer.DiffID)
}

// An Incoming is a blob that is being received.
type Incoming struct {
	io.Reader

	// Adopt, unless it is nil, renames the file that holds all that was read to path, which is in the file system of the
	// layout. It may be called once the reader has given io.EOF, and the reader has then verified what it gave.
	Adopt func(path string) error
}

// PushLayer stages a layer's blob as [Layout.Push] does, and the tar that it holds, in one pass. The tar's bytes, which
// are not verified before PushLayer returns nil, go to tap as well, unless that is nil. A blob that can be adopted is
// neither hashed nor written again.
func (l *Layout) PushLayer(ctx context.Context, layer Layer, in Incoming, tap io.Writer) (err error) {
	if err := errors.Join(CheckDescriptor(layer.Blob), CheckDigest(layer.DiffID)); err != nil {
		return err
	}
	if layer.Blob.Digest == layer.DiffID { // the tar is the blob
		return l.pushInflated(ctx, layer, Verify(in, layer.Blob), tap)
	}
	f, err := l.staging.Create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := in.Reader
	if in.Adopt == nil {
		r = io.TeeReader(Verify(r, layer.Blob), l.Guard(ctx, f))
	}
	if err := l.pushInflated(ctx, layer, r, tap); err != nil {
		return err
	}
	if in.Adopt == nil {
		return f.Commit(l.BlobPath(layer.Blob.Digest))
	}
	if err := in.Adopt(f.Name()); err != nil {
		return err
	}
	return l.staging.commitFile(f.Name(), l.BlobPath(layer.Blob.Digest)) // f is open on the file that was there before
}

func (l *Layout) pushInflated(ctx context.Context, layer Layer, r io.Reader, tap io.Writer) error {
	if err := l.inflate(ctx, layer, bufio.NewReaderSize(r, bufSize), tap); err != nil {
		return fmt.Errorf("layer %s: %w", layer.Blob.Digest, err)
	}
	l.noteProven(layer)
	return nil
}

// inflate stages the tar that blob holds and reads blob to its end. Decompression goes on one core; hash, tap and disk on
// another.
func (l *Layout) inflate(ctx context.Context, layer Layer, blob *bufio.Reader, tap io.Writer) (err error) {
	f, err := l.staging.Create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := decompress(blob)
	if err != nil {
		return err
	}
	defer r.Close()
	out := l.output(ctx, f)
	w := io.Writer(out)
	if tap != nil {
		w = io.MultiWriter(out, tap)
	}
	if err := copyAhead(w, r); err != nil {
		return err
	}
	// The decompressor may stop before the last bytes, which the digest covers too.
	if n, err := io.Copy(io.Discard, blob); err != nil {
		return err
	} else if n > 0 {
		return fmt.Errorf("%d bytes follow the compressed tar", n)
	}
	if err := out.is(layer.DiffID); err != nil {
		return err
	}
	return f.Commit(l.BlobPath(layer.DiffID))
}

// decompress finds out by its first bytes whether r is gzip, zstd or neither, and returns a reader of what it holds.
func decompress(r *bufio.Reader) (io.ReadCloser, error) {
	magic, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), // a frame; or one to be skipped, before it:
		len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18}):
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}

// copyAhead copies with reading and writing each in its own goroutine, some buffers apart.
func copyAhead(w io.Writer, r io.Reader) error {
	const ahead = 4
	type chunk struct {
		buf []byte
		n   int
		err error
	}
	empty, full := make(chan []byte, ahead), make(chan chunk, ahead)
	for range ahead {
		empty <- make([]byte, bufSize)
	}
	go func() {
		defer close(full)
		for buf := range empty {
			n, err := readFull(r, buf)
			full <- chunk{buf, n, err}
			if err != nil {
				return
			}
		}
	}()
	var failed error
	for c := range full {
		if failed == nil && c.n > 0 {
			_, failed = w.Write(c.buf[:c.n])
		}
		switch {
		case failed != nil: // no more buffers: the reader stops after those it has
			if empty != nil {
				close(empty)
				empty = nil
			}
		case c.err == io.EOF:
			return nil
		case c.err != nil:
			failed = c.err
		default:
			empty <- c.buf
		}
	}
	return failed
}
