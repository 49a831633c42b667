package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"runtime"
	"slices"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// Blocks are of fixed size and compressed each on its own, so that as many cores as there are can work and the output
// is the same with any number. The sizes are part of what [Compression.format] stands for.
const (
	gzipBlock  = 1 << 20
	gzipWindow = 16 << 10 // what a block may refer to in the one before
	zstdBlock  = 4 << 20  // a frame
	zstdExtra  = 4 << 10  // by which a frame of noise is longer, at most
)

// A block is a piece of the input and what it is compressed to.
type block struct {
	in   []byte
	tail []byte // the end of the block before
	at   int64  // where it begins
	last bool
	out  *bytes.Buffer
	done chan struct{}
}

// An encoder compresses blocks, one at a time.
type encoder func(*block) error

// compressGzip writes one gzip member. Each block ends on a byte boundary (a sync flush) and may refer to the end of the block before.
func compressGzip(ctx context.Context, w io.Writer, r io.Reader, level int) error {
	header := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255} // no time, name or system
	switch level {
	case 1:
		header[8] = 4
	case 9:
		header[8] = 2
	}
	if level < slowest { // the library that wrote these before gave this for a time; so they stay the same
		binary.LittleEndian.PutUint32(header[4:], 0x886e0900)
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	sum := gzipSum{}
	err := compressBlocks(ctx, w, io.TeeReader(r, &sum), gzipBlock, func() (encoder, error) { return newGzip(level) })
	if err != nil {
		return err
	}
	_, err = w.Write(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, sum.crc), sum.size))
	return err
}

// A gzipSum is the end of a gzip member.
type gzipSum struct{ crc, size uint32 }

func (s *gzipSum) Write(p []byte) (int, error) {
	s.crc = crc32.Update(s.crc, crc32.IEEETable, p)
	s.size += uint32(len(p))
	return len(p), nil
}

// slowest is the first level of gzip that takes twice the time of the one below, and takes it for noise, too.
const slowest = 7

// newGzip makes an encoder of deflate. From the level slowest on, a block that does not get smaller, or nearly vanishes, is left to level 1.
func newGzip(level int) (encoder, error) {
	z, err := flate.NewWriter(io.Discard, level)
	if err != nil {
		return nil, err
	}
	fast := z
	if level >= slowest {
		if fast, err = flate.NewWriter(io.Discard, 1); err != nil {
			return nil, err
		}
	}
	return func(b *block) error {
		use := z
		if level >= slowest {
			if easy, err := isEasy(fast, b); err != nil {
				return err
			} else if easy {
				use = fast
			}
		}
		use.ResetDict(b.out, b.tail)
		if _, err := use.Write(b.in); err != nil {
			return err
		}
		if err := use.Flush(); err != nil || !b.last {
			return err
		}
		return use.Close()
	}, nil
}

// isEasy tries samples of a block: it is easy if less than 1 % of them, or more than 98 %, is left. It uses b.out.
func isEasy(z *flate.Writer, b *block) (bool, error) {
	const size, every = 16 << 10, 256 << 10
	z.ResetDict(b.out, nil)
	in := 0
	for at := 0; at+size <= len(b.in); at += every {
		if _, err := z.Write(b.in[at:][:size]); err != nil {
			return false, err
		}
		in += size
	}
	err := z.Flush()
	out := b.out.Len()
	b.out.Reset()
	return in > 0 && (out*100 < in || out*100 > in*98), err
}

// compressZstd writes a frame a block.
func compressZstd(ctx context.Context, w io.Writer, r io.Reader, level int) error {
	return compressBlocks(ctx, w, r, zstdBlock, func() (encoder, error) {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(1),
			zstd.WithZeroFrames(true), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(zstdBlock))
		return func(b *block) error {
			if len(b.in) > 0 || b.at == 0 {
				b.out.Grow(len(b.in) + zstdExtra) // once: what has to grow is there twice, and then twice as large
				b.out.Write(z.EncodeAll(b.in, b.out.AvailableBuffer()))
			}
			return nil
		}, err
	})
}

// compressBlocks cuts r into blocks, at least one, has as many encoders as there are cores compress them, and writes what comes out in
// order.
func compressBlocks(ctx context.Context, w io.Writer, r io.Reader, size int, newEncoder func() (encoder, error)) error {
	workers := runtime.GOMAXPROCS(0)
	more := min(2, zstdBlock/size) // of each than encoders, to be read and to be written meanwhile
	ins, outs := make(chan []byte, workers+more), make(chan *bytes.Buffer, workers+more)
	for range cap(ins) {
		ins <- nil
		outs <- &bytes.Buffer{}
	}
	work, order := make(chan *block, 2*cap(ins)), make(chan *block, 2*cap(ins)) // neither ever blocks
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return cut(ctx, r, size, ins, func(b *block) {
			work <- b
			order <- b
		})
	})
	for range workers {
		g.Go(func() error {
			encode, err := newEncoder()
			if err != nil {
				return err
			}
			return encodeBlocks(ctx, encode, work, outs, ins)
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
			outs <- b.out
		}
		return nil
	})
	return g.Wait()
}

// encodeBlocks compresses blocks. What they were read into is free again when they are compressed, what they are compressed to when they are
// written. It is taken before the block: else later blocks could have all of them, which wait for this one.
func encodeBlocks(ctx context.Context, encode encoder, work <-chan *block, outs <-chan *bytes.Buffer, ins chan<- []byte) error {
	for {
		var out *bytes.Buffer
		select {
		case out = <-outs:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		b, ok := <-work
		if !ok {
			return nil
		}
		b.out = out
		b.out.Reset()
		if err := encode(b); err != nil {
			return err
		}
		ins <- b.in
		b.in = nil
		close(b.done)
	}
}

// cut reads r into buffers of size bytes and hands them on as blocks. The last one is shorter, and may be empty.
func cut(ctx context.Context, r io.Reader, size int, ins <-chan []byte, next func(*block)) error {
	var tail []byte
	for at := int64(0); ; {
		b := &block{done: make(chan struct{})}
		select {
		case b.in = <-ins:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		b.in = slices.Grow(b.in[:0], size)[:size]
		n, err := readFull(r, b.in)
		if err != nil && err != io.EOF {
			return err
		}
		b.in, b.at, b.last = b.in[:n], at, err == io.EOF
		b.tail = append(b.tail[:0], tail...)
		tail = append(tail[:0], b.in[max(0, n-gzipWindow):]...)
		at += int64(n)
		next(b)
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
