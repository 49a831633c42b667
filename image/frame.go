package image

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// frameLevel is the level of frames: data that is compressed once and read seldom, on a machine that waits for it.
const frameLevel = 3

// A FrameWriter compresses pieces of data, each to a zstd frame of its own (RFC 8878). Equal pieces are equal frames. It is for
// one goroutine.
type FrameWriter struct{ z *zstd.Encoder }

// NewFrameWriter returns a FrameWriter.
func NewFrameWriter() (*FrameWriter, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(frameLevel)), zstd.WithEncoderConcurrency(1),
		zstd.WithZeroFrames(true), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	return &FrameWriter{z}, err
}

// Append appends the frame of data to dst. Whoever reads it knows a digest of data: the frame has no checksum.
func (w *FrameWriter) Append(dst, data []byte) []byte { return w.z.EncodeAll(data, dst) }

// A FrameReader reads what FrameWriters and others have written. It is for one goroutine.
type FrameReader struct {
	z    *zstd.Decoder
	size int
}

// NewFrameReader reads frames of at most size bytes of data.
func NewFrameReader(size int) (*FrameReader, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(size)), zstd.WithDecoderMaxWindow(uint64(max(size, 1<<10))))
	return &FrameReader{z, size}, err
}

// Append appends the data of a frame to dst. A frame of more than the size is refused before it takes memory.
func (r *FrameReader) Append(dst, frame []byte) ([]byte, error) {
	out, err := r.z.DecodeAll(frame, dst)
	if err != nil {
		return dst, fmt.Errorf("zstd: %w", err)
	}
	return out, nil
}

// Close gives back what the reader holds.
func (r *FrameReader) Close() { r.z.Close() }
