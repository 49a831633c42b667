package image

import (
	"context"
	"io"
	"runtime"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"golang.org/x/sync/errgroup"
)

// Blocks are of fixed size and compressed each on its own, so that as many cores as there are can work and the output
// is the same with any number. The sizes are part of compressFormat.
const (
	gzipBlock = 1 << 20
	zstdBlock = 4 << 20 // a frame
)

// A block is a piece of the input and what it is compressed to.
type block struct {
	in   []byte
	out  []byte
	done chan struct{}
}

// compressGzip writes one gzip member.
func compressGzip(w io.Writer, r io.Reader, level int) error {
	z, err := pgzip.NewWriterLevel(w, level)
	if err != nil {
		return err
	}
	// How many blocks are in flight decides the speed and the memory, and nothing of what is written.
	if err := z.SetConcurrency(gzipBlock, runtime.GOMAXPROCS(0)+2); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{z}, struct{ io.Reader }{r}, make([]byte, bufSize))
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		z.Reset(io.Discard) // ends its goroutines, which Close does not after an error
	}
	return err
}

// compressZstd cuts r into blocks, at least one, has as many encoders as there are cores compress each to a frame, and writes
// what comes out in order.
func compressZstd(ctx context.Context, w io.Writer, r io.Reader, level int) error {
	workers := runtime.GOMAXPROCS(0)
	free := make(chan *block, workers+2)
	for range cap(free) {
		free <- &block{done: make(chan struct{}, 1)}
	}
	work, order := make(chan *block, cap(free)), make(chan *block, cap(free)) // neither ever blocks
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return cut(ctx, r, free, func(b *block) {
			work <- b
			order <- b
		})
	})
	for range workers {
		g.Go(func() error {
			z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(1),
				zstd.WithZeroFrames(true), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return err
			}
			for b := range work {
				b.out = z.EncodeAll(b.in, slices.Grow(b.out[:0], len(b.in)/2))
				b.done <- struct{}{}
			}
			return nil
		})
	}
	g.Go(func() error {
		for b := range order {
			select {
			case <-b.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if _, err := w.Write(b.out); err != nil {
				return err
			}
			free <- b
		}
		return nil
	})
	return g.Wait()
}

// cut reads r into free blocks, the last of them shorter, and hands them on.
func cut(ctx context.Context, r io.Reader, free <-chan *block, next func(*block)) error {
	for first := true; ; first = false {
		var b *block
		select {
		case b = <-free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if b.in == nil {
			b.in = make([]byte, zstdBlock)
		}
		b.in = b.in[:zstdBlock]
		n, err := readFull(r, b.in)
		if err != nil && err != io.EOF {
			return err
		}
		if b.in = b.in[:n]; n > 0 || first {
			next(b)
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readFull reads until buf is full. Unlike io.ReadFull it returns the error as it was.
func readFull(r io.Reader, buf []byte) (n int, err error) {
	for m := 0; n < len(buf) && err == nil; n += m {
		m, err = r.Read(buf[n:])
	}
	return n, err
}
