package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"runtime"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// Blocks are of fixed size and compressed each on its own, so that as many cores as there are can work and the output
// is the same with any number. The sizes are part of compressFormat.
const (
	gzipBlock  = 1 << 20
	gzipWindow = 32 << 10 // of deflate: what a block may refer to in the one before
	zstdBlock  = 4 << 20  // a frame
)

// A block is a piece of the input and what it is compressed to.
type block struct {
	in   []byte
	tail []byte // of the block before
	out  bytes.Buffer
	done chan struct{}
}

// compressGzip writes one gzip member. Each block ends on a byte boundary (a sync flush) and may refer to the end of the
// block before.
func compressGzip(ctx context.Context, w io.Writer, r io.Reader, level int) error {
	if _, err := w.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}); err != nil { // no time, no name, no system
		return err
	}
	crc, size := crc32.NewIEEE(), uint32(0)
	sum := func(p []byte) {
		crc.Write(p)
		size += uint32(len(p))
	}
	err := compressBlocks(ctx, w, r, gzipBlock, sum, func() (func(*block) error, error) {
		z, err := flate.NewWriter(io.Discard, level)
		return func(b *block) error {
			z.ResetDict(&b.out, b.tail)
			if _, err := z.Write(b.in); err != nil {
				return err
			}
			return z.Flush()
		}, err
	})
	if err != nil {
		return err
	}
	end := []byte{0x03, 0x00} // a last, empty block
	end = binary.LittleEndian.AppendUint32(end, crc.Sum32())
	_, err = w.Write(binary.LittleEndian.AppendUint32(end, size))
	return err
}

// compressZstd writes a frame a block.
func compressZstd(ctx context.Context, w io.Writer, r io.Reader, level int) error {
	return compressBlocks(ctx, w, r, zstdBlock, func([]byte) {}, func() (func(*block) error, error) {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(1),
			zstd.WithZeroFrames(true), zstd.WithLowerEncoderMem(true))
		return func(b *block) error {
			b.out.Grow(len(b.in) / 2)
			b.out.Write(z.EncodeAll(b.in, b.out.AvailableBuffer()))
			return nil
		}, err
	})
}

// compressBlocks cuts r into blocks of size bytes, at least one, tells sum each in order, has as many encoders as there
// are cores compress them and writes what comes out in order.
func compressBlocks(ctx context.Context, w io.Writer, r io.Reader, size int, sum func([]byte), encoder func() (func(*block) error, error)) error {
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
		return cut(ctx, r, size, free, func(b *block) {
			sum(b.in)
			work <- b
			order <- b
		})
	})
	for range workers {
		g.Go(func() error {
			encode, err := encoder()
			if err != nil {
				return err
			}
			for b := range work {
				b.out.Reset()
				if err := encode(b); err != nil {
					return err
				}
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
			if _, err := w.Write(b.out.Bytes()); err != nil {
				return err
			}
			free <- b
		}
		return nil
	})
	return g.Wait()
}

// cut reads r into free blocks of size bytes, the last of them shorter, and hands them on.
func cut(ctx context.Context, r io.Reader, size int, free <-chan *block, next func(*block)) error {
	var tail []byte
	for first := true; ; first = false {
		var b *block
		select {
		case b = <-free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if cap(b.in) < size {
			b.in = make([]byte, size)
		}
		b.in = b.in[:size]
		n, err := 0, error(nil)
		for m := 0; n < size && err == nil; n += m { // io.ReadFull would hide why a block is not full
			m, err = r.Read(b.in[n:])
		}
		if err != nil && err != io.EOF {
			return err
		}
		if b.in = b.in[:n]; n > 0 || first {
			b.tail = append(b.tail[:0], tail...)
			tail = append(tail[:0], b.in[max(0, n-gzipWindow):]...)
			next(b)
		}
		if err == io.EOF {
			return nil
		}
	}
}
