package erofs

import (
	"fmt"
	"math/bits"

	"github.com/forge-build/forge/snapshot/filetree"
)

// maxSparseChunks are of one file, 4 bytes each while the index is made.
const maxSparseChunks = 4 << 20

// A sparseMap says where the chunks of a sparse file are: 1<<bits blocks each, from a block of the tar or hole. A Builder keeps
// it in its chunks: bits, the number of chunks, and these.
type sparseMap struct {
	bits   uint8
	chunks []uint32
}

// AddSparse is Add for a file with holes. The pieces of data lie one after the other in the tar, the first at offset; of
// each, At is where in the file it belongs. All have to begin at multiples of 512 bytes, there and in the file.
func (b *Builder) AddSparse(path string, e *filetree.Entry, offset int64, pieces []filetree.Extent) error {
	m, err := newSparseMap(e.Size, offset, pieces)
	if err != nil {
		return err
	}
	if err := b.charge(4 * len(m.chunks)); err != nil {
		return err
	}
	// The offset is of no use, and the size not of data.
	if err := b.Add(path, e, 0); err != nil {
		return err
	}
	i := &b.inodes[len(b.inodes)-1]
	i.flags |= flagSparse
	i.offset = int64(len(b.chunks))
	b.chunks = append(filetree.Grow(b.spill, b.chunks, 2+len(m.chunks)), uint32(m.bits), uint32(len(m.chunks)))
	b.chunks = append(b.chunks, m.chunks...)
	return nil
}

// sparseMap is the map of a sparse file.
func (b *Builder) sparseMap(i *indexInode) sparseMap {
	at := b.chunks[i.offset:]
	return sparseMap{bits: uint8(at[0]), chunks: at[2 : 2+at[1]]}
}

// newSparseMap lays a sparse file out in chunks as big as its pieces allow.
func newSparseMap(size, data int64, pieces []filetree.Extent) (sparseMap, error) {
	all := uint64(0) // a bit is set if one of the offsets has it
	for at, k := data, 0; k < len(pieces); k++ {
		piece := pieces[k]
		if piece.Size == 0 {
			continue
		}
		all |= uint64(piece.At)
		if end := piece.At + piece.Size; end < size {
			all |= uint64(end) // what follows is another chunk
		}
		if at%blockSize != 0 || at>>blockBits >= hole {
			all |= 1
		}
		at += piece.Size
	}
	if all%blockSize != 0 {
		return sparseMap{}, fmt.Errorf("sparse file whose pieces do not begin at multiples of %d bytes", blockSize)
	}
	blocks := uint64(size+blockSize-1) >> blockBits
	chunkBits := min(bits.TrailingZeros64(all>>blockBits), bits.Len64(blocks), chunkBitsMask)
	n := (blocks + 1<<chunkBits - 1) >> chunkBits
	if n > maxSparseChunks {
		return sparseMap{}, fmt.Errorf("sparse file of %d bytes in pieces of %d is too sparse", size, blockSize<<chunkBits)
	}
	m := sparseMap{bits: uint8(chunkBits), chunks: make([]uint32, n)}
	for k := range m.chunks {
		m.chunks[k] = hole
	}
	for _, piece := range pieces {
		for done := int64(0); done < piece.Size; done += blockSize << chunkBits {
			m.chunks[(piece.At+done)>>(blockBits+chunkBits)] = uint32((data + done) >> blockBits)
		}
		data += piece.Size
	}
	return m, nil
}
