package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Forms say in which form layers are copied. The zero value of all but Source compresses tars by gzip.
type Forms struct {
	Source      LayerSource
	Compression image.Compression
	Recompress  bool // give another form to layers that are compressed already, too
}

// A LayerSource makes forms of the layers that it has; *image.Layout is one.
type LayerSource interface {
	// Compressed finds the form that was made before. Its bytes need not be here any more.
	Compressed(l image.Layer, c image.Compression) (ocispec.Descriptor, bool)

	// CompressTo writes the form to w, remembers and returns its descriptor. The same call always writes the same bytes. m counts
	// them and what is read of the layer; it may be nil.
	CompressTo(ctx context.Context, w io.Writer, m *image.Meter, l image.Layer, c image.Compression) (ocispec.Descriptor, error)
}

// form is what a layer is copied as. It has no digest as long as that is not known.
func (f *Forms) form(l image.Layer) ocispec.Descriptor {
	if f == nil || !f.changes(l) {
		return l.Blob
	}
	if d, ok := f.Source.Compressed(l, f.Compression); ok {
		return d
	}
	return ocispec.Descriptor{MediaType: l.Blob.MediaType, Size: -1}
}

// changes reports whether a layer is to be copied in another form than it is stored in. What is said to be a tar and is not that of the
// diffID stays as it is: the tar of the diffID is another image's.
func (f *Forms) changes(l image.Layer) bool {
	tar := image.IsTar(l.Blob.MediaType)
	if tar && l.Blob.Digest != l.DiffID {
		return false
	}
	if f.Compression.Algorithm == image.Uncompressed {
		return f.Recompress && !tar
	}
	return tar || f.Recompress
}

// makers has a place for each layer to be compressed at once. One compressor keeps all cores busy; a second one fills its
// pauses, where it does not take much memory.
func (f *Forms) makers() chan struct{} {
	if f == nil || f.Compression.Algorithm == image.Zstd {
		return make(chan struct{}, 1)
	}
	return make(chan struct{}, 2)
}

// make is the content of a layer's form while it is made. made is called as soon as a form is whole.
func (f *Forms) make(l image.Layer, m *image.Meter, made func()) image.Content {
	var mu sync.Mutex
	var form ocispec.Descriptor
	return image.Content{
		Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			return startMaking(ctx, func(ctx context.Context, w io.Writer) error {
				defer made()
				d, err := f.Source.CompressTo(ctx, w, m, l, f.Compression)
				mu.Lock()
				defer mu.Unlock()
				form = d
				return err
			}, offset), nil
		},
		Describe: func() ocispec.Descriptor {
			mu.Lock()
			defer mu.Unlock()
			return form
		},
	}
}

// again is the content of the form d of a layer: src's if it has it, else it is made once more.
func (f *Forms) again(src image.Fetcher, l image.Layer, d ocispec.Descriptor) image.Content {
	return image.Content{Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		r, err := src.Fetch(ctx, d, offset)
		if !errors.Is(err, fs.ErrNotExist) || d.Digest == l.Blob.Digest {
			return r, err
		}
		return startMaking(ctx, func(ctx context.Context, w io.Writer) error {
			got, err := f.Source.CompressTo(ctx, w, nil, l, f.Compression)
			if err == nil && got.Digest != d.Digest {
				err = fmt.Errorf("compressing gave %s where it gave %s before", got.Digest, d.Digest)
			}
			return err
		}, offset), nil
	}}
}

// A making is a writer at work: what it writes, to be read.
type making struct {
	*io.PipeReader
	done chan struct{}
	once sync.Once
	err  error // valid after done
}

// startMaking has write write, and gives what comes after offset.
func startMaking(ctx context.Context, write func(context.Context, io.Writer) error, offset int64) *making {
	pr, pw := io.Pipe()
	m := &making{PipeReader: pr, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		m.err = write(ctx, &skipWriter{w: pw, skip: offset})
		pw.CloseWithError(m.err)
	}()
	return m
}

// Close waits for the writer and returns its error, or that it was not read to the end.
func (m *making) Close() error {
	m.once.Do(func() { _ = m.PipeReader.CloseWithError(errUnread) })
	<-m.done
	return m.err
}

var errUnread = errors.New("registry did not take all of it")

// A skipWriter drops the first bytes.
type skipWriter struct {
	w    io.Writer
	skip int64
}

func (s *skipWriter) Write(p []byte) (int, error) {
	n := int(min(s.skip, int64(len(p))))
	s.skip -= int64(n)
	if n == len(p) {
		return n, nil
	}
	k, err := s.w.Write(p[n:])
	return n + k, err
}
