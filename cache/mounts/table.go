package mounts

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/chunk"
	"github.com/forge-build/forge/image"
)

// Limits of a table.
const (
	maxTable  = 16 << 20 // bytes, not compressed
	maxPacks  = 200
	headerLen = 32
	entryLen  = 48
	magic     = "FMT1"
)

type sum = [32]byte

// A table says of which chunks a tar is made and where they are. As bytes, little endian, in one zstd frame:
//
//	header   "FMT1" | chunks u32 | packs u32 | size of the tar u64 | average of a chunk u32 | seed u32 | 4 zero
//	packs    digest [32] | size u64 | live u32, in KiB | 4 zero
//	chunks   in the tar's order: SHA-256 [32] | pack u32 | offset in it u32 | length there u32 | length u32
type table struct {
	size   int64
	packs  []pack
	chunks []piece
}

// A pack is a blob of frames. What is live in it is what the table's chunks take.
type pack struct {
	digest digest.Digest
	size   int64
	live   int64 // in bytes; as stored a multiple of 1 KiB, rounded up
}

func (p *pack) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: packType, Digest: p.digest, Size: p.size}
}

// A piece is a chunk of the tar, and where it lies.
type piece struct {
	sum            sum
	pack           int
	offset, length int64 // of the frame
	size           int64 // of the chunk
}

// marshal is the table as it is stored.
func (t *table) marshal() ([]byte, error) {
	b := make([]byte, 0, headerLen+entryLen*(len(t.packs)+len(t.chunks)))
	le := binary.LittleEndian
	b = append(b, magic...)
	b = le.AppendUint32(b, uint32(len(t.chunks)))
	b = le.AppendUint32(b, uint32(len(t.packs)))
	b = le.AppendUint64(b, uint64(t.size))
	b = le.AppendUint32(b, chunk.Average)
	b = append(b, make([]byte, 8)...)
	for i := range t.packs {
		p := &t.packs[i]
		raw, err := hex.DecodeString(p.digest.Encoded())
		if err != nil {
			return nil, err
		}
		b = append(b, raw...)
		b = le.AppendUint64(b, uint64(p.size))
		b = le.AppendUint32(b, uint32(min((p.live+1023)>>10, math.MaxUint32)))
		b = append(b, 0, 0, 0, 0)
	}
	for i := range t.chunks {
		c := &t.chunks[i]
		b = append(b, c.sum[:]...)
		for _, n := range []int64{int64(c.pack), c.offset, c.length, c.size} {
			b = le.AppendUint32(b, uint32(n))
		}
	}
	if len(b) > maxTable {
		return nil, fmt.Errorf("table of %d bytes is more than %d", len(b), maxTable)
	}
	w, err := image.NewFrameWriter()
	if err != nil {
		return nil, err
	}
	return w.Append(nil, b), nil
}

// parseTable reads a table that comes from outside.
func parseTable(frame []byte) (*table, error) {
	r, err := image.NewFrameReader(maxTable)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := r.Append(nil, frame)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if len(b) < headerLen || string(b[:4]) != magic {
		return nil, errors.New("is none that this forge knows")
	}
	chunks, packs := int64(le.Uint32(b[4:])), int64(le.Uint32(b[8:]))
	t := &table{size: int64(le.Uint64(b[12:]))}
	if packs > maxPacks || int64(len(b)) != headerLen+entryLen*(packs+chunks) || !bytes.Equal(b[24:32], make([]byte, 8)) {
		return nil, fmt.Errorf("%d bytes are not %d packs and %d chunks", len(b), packs, chunks)
	}
	b = b[headerLen:]
	seen := make(map[digest.Digest]bool, packs)
	for range packs {
		t.packs = append(t.packs, pack{
			digest: digest.NewDigestFromBytes(digest.SHA256, b[:32]), size: int64(le.Uint64(b[32:])), live: int64(le.Uint32(b[40:])) << 10,
		})
		b = b[entryLen:]
		d := t.packs[len(t.packs)-1].digest
		if seen[d] {
			return nil, fmt.Errorf("pack %s is named twice", d)
		}
		seen[d] = true
	}
	total := int64(0)
	for range chunks {
		c := piece{
			sum: sum(b[:32]), pack: int(le.Uint32(b[32:])),
			offset: int64(le.Uint32(b[36:])), length: int64(le.Uint32(b[40:])), size: int64(le.Uint32(b[44:])),
		}
		if c.pack >= len(t.packs) || c.size == 0 || c.size > chunk.MaxSize || c.length == 0 || c.length > c.size+c.size>>7+maxOverhead ||
			c.offset+c.length > t.packs[c.pack].size {
			return nil, fmt.Errorf("chunk %d is out of range", len(t.chunks))
		}
		t.chunks = append(t.chunks, c)
		total += c.size
		b = b[entryLen:]
	}
	if total != t.size {
		return nil, fmt.Errorf("chunks have %d bytes, not %d", total, t.size)
	}
	return t, nil
}

// maxOverhead, in bytes, and a 128th is as much as zstd adds to what it cannot compress.
const maxOverhead = 64

// count fills in what is live of each pack.
func (t *table) count() {
	for i := range t.packs {
		t.packs[i].live = 0
	}
	seen := make(map[sum]bool, len(t.chunks))
	for i := range t.chunks {
		if c := &t.chunks[i]; !seen[c.sum] {
			seen[c.sum] = true
			t.packs[c.pack].live += c.length
		}
	}
}
