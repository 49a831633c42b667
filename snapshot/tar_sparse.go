package snapshot

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

const (
	maxSparseMap    = 1 << 20 // bytes of the map of one file
	maxSparseChunks = 4 << 20 // of one file, 4 bytes each while the index is made
)

// A sparseReader reads where the data of a sparse file is, in each of GNU tar's four ways of saying it. The pieces of data
// follow each other in the tar; if they begin at multiples of 512 there and in the file, as GNU tar makes them, the
// index says where each of them goes, and the rest are holes.
type sparseReader struct {
	pieces []extent // of the file: holes are not among them, and at is an offset in the file
}

// old reads the map of an entry of type S: in the header, and in blocks that follow it.
func (s *sparseReader) old(p *tarParser, h header, t *tarEntry) error {
	s.pieces = nil
	size, err := h.number(483, 495)
	if err != nil {
		return err
	}
	t.Size = size
	more, err := s.fields(h[386:482], h[482])
	if err != nil {
		return err
	}
	return s.next(p, t, more)
}

// next reads another block of the map, or ends.
func (s *sparseReader) next(p *tarParser, t *tarEntry, more bool) error {
	if !more {
		return s.done(p, t)
	}
	if len(s.pieces) > maxSparseMap/24 {
		return fmt.Errorf("sparse map of more than %d pieces", len(s.pieces))
	}
	entry := *t
	p.pending = true
	p.want(entry.data, tarBlock, func(b []byte) error {
		entry.data += tarBlock
		more, err := s.fields(b[:504], b[504])
		if err != nil {
			return err
		}
		return s.next(p, &entry, more)
	})
	return nil
}

// fields reads pairs of offset and size, 12 bytes each.
func (s *sparseReader) fields(b []byte, more byte) (bool, error) {
	for ; len(b) >= 24 && b[0] != 0; b = b[24:] {
		at, err := header(b).number(0, 12)
		if err != nil {
			return false, err
		}
		size, err := header(b).number(12, 24)
		if err != nil {
			return false, err
		}
		s.pieces = append(s.pieces, extent{size: size, at: at})
	}
	return more != 0, nil
}

// pax reads the map of a PAX entry: in its records, or at the beginning of the data.
func (s *sparseReader) pax(p *tarParser, t *tarEntry) error {
	s.pieces = nil
	if p.pax.sparseName != "" {
		t.name = p.pax.sparseName
	}
	size, err := strconv.ParseInt(p.pax.sparseSize, 10, 64)
	if err != nil || t.kind != tarRegular {
		return fmt.Errorf("%w: sparse file without a size", errTar)
	}
	t.Size = size
	switch p.pax.sparseVersion {
	case "":
		if err := s.numbers(strings.Split(p.pax.sparseMap, ",")); err != nil {
			return err
		}
		return s.done(p, t)
	case "1.0":
		return s.lines(p, t, nil)
	}
	return fmt.Errorf("sparse file of unknown version %.20q", p.pax.sparseVersion)
}

// lines reads the map of version 1.0: how many pieces, then offset and size of each, a line each, padded to a block.
func (s *sparseReader) lines(p *tarParser, t *tarEntry, text []byte) error {
	entry := *t
	p.pending = true
	p.want(entry.data, tarBlock, func(b []byte) error {
		text = append(text, b...)
		entry.data += tarBlock
		if entry.stored -= tarBlock; entry.stored < 0 || len(text) > maxSparseMap {
			return fmt.Errorf("%w: sparse map", errTar)
		}
		first, _, ok := bytes.Cut(text, []byte("\n"))
		if !ok {
			return s.lines(p, &entry, text)
		}
		n, err := strconv.ParseUint(string(first), 10, 20)
		if err != nil {
			return fmt.Errorf("%w: sparse map", errTar)
		}
		if bytes.Count(text, []byte("\n")) < int(2*n+1) {
			return s.lines(p, &entry, text)
		}
		if err := s.numbers(strings.SplitN(string(text), "\n", int(2*n+2))[1 : 2*n+1]); err != nil {
			return err
		}
		return s.done(p, &entry)
	})
	return nil
}

// numbers reads pairs of offset and size in decimal.
func (s *sparseReader) numbers(list []string) error {
	if len(list)%2 != 0 {
		return fmt.Errorf("%w: sparse map", errTar)
	}
	for ; len(list) > 0; list = list[2:] {
		at, err := strconv.ParseInt(list[0], 10, 64)
		if err != nil {
			return fmt.Errorf("%w: sparse map", errTar)
		}
		size, err := strconv.ParseInt(list[1], 10, 64)
		if err != nil {
			return fmt.Errorf("%w: sparse map", errTar)
		}
		s.pieces = append(s.pieces, extent{size: size, at: at})
	}
	return nil
}

// done checks the map and hands the entry on.
func (s *sparseReader) done(p *tarParser, t *tarEntry) error {
	end, sum := int64(0), int64(0)
	for _, e := range s.pieces {
		if e.at < end || e.size < 0 || e.at > t.Size || e.size > t.Size-e.at {
			return fmt.Errorf("%w: sparse map", errTar)
		}
		end, sum = e.at+e.size, sum+e.size
	}
	if t.Size < 0 || sum != t.stored {
		return fmt.Errorf("%w: sparse map of %d bytes, data of %d", errTar, sum, t.stored)
	}
	t.kind, t.sparse = tarRegular, s.pieces
	if t.sparse == nil {
		t.sparse = []extent{} // one hole
	}
	s.pieces = nil
	return p.done(t)
}

// newSparseMap lays a sparse file out in chunks as big as its pieces allow.
func newSparseMap(size, data int64, pieces []extent) (sparseMap, error) {
	all := uint64(0) // a bit is set if one of the offsets has it
	for at, k := data, 0; k < len(pieces); k++ {
		piece := pieces[k]
		if piece.size == 0 {
			continue
		}
		all |= uint64(piece.at)
		if end := piece.at + piece.size; end < size {
			all |= uint64(end) // what follows is another chunk
		}
		if at%erofsBlock != 0 || at>>erofsBlockBits >= erofsHole {
			all |= 1
		}
		at += piece.size
	}
	if all%erofsBlock != 0 {
		return sparseMap{}, fmt.Errorf("sparse file whose pieces do not begin at multiples of %d bytes", erofsBlock)
	}
	blocks := uint64(size+erofsBlock-1) >> erofsBlockBits
	chunkBits := min(bits.TrailingZeros64(all>>erofsBlockBits), bits.Len64(blocks), erofsChunkBits)
	n := (blocks + 1<<chunkBits - 1) >> chunkBits
	if n > maxSparseChunks {
		return sparseMap{}, fmt.Errorf("sparse file of %d bytes in pieces of %d is too sparse", size, erofsBlock<<chunkBits)
	}
	m := sparseMap{bits: uint8(chunkBits), chunks: make([]uint32, n)}
	for k := range m.chunks {
		m.chunks[k] = erofsHole
	}
	for _, piece := range pieces {
		for done := int64(0); done < piece.size; done += erofsBlock << chunkBits {
			m.chunks[(piece.at+done)>>(erofsBlockBits+chunkBits)] = uint32((data + done) >> erofsBlockBits)
		}
		data += piece.size
	}
	return m, nil
}
