package layertar

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/forge-build/forge/snapshot/filetree"
)

const maxSparseMap = 1 << 20 // bytes of the map of one file

// A sparseReader reads where the data of a sparse file is, in each of GNU tar's four ways of saying it. The pieces of data
// follow each other in the tar; if they begin at multiples of 512 there and in the file, as GNU tar makes them, the
// index says where each of them goes, and the rest are holes.
type sparseReader struct {
	pieces []filetree.Extent // of the file: holes are not among them, and at is an offset in the file
}

// old reads the map of an entry of type S: in the header, and in blocks that follow it.
func (s *sparseReader) old(p *Parser, h block, t *Header) error {
	s.pieces = nil
	size, err := h.number(483, 495)
	if err != nil {
		return err
	}
	t.Size = size
	return s.fields(p, t, h[386:482], h[482])
}

// fields reads pairs of offset and size, 12 bytes each, and then, unless more is 0, another block of the map.
func (s *sparseReader) fields(p *Parser, t *Header, b []byte, more byte) error {
	for ; len(b) >= 24 && b[0] != 0; b = b[24:] {
		at, err := block(b).number(0, 12)
		if err != nil {
			return err
		}
		size, err := block(b).number(12, 24)
		if err != nil {
			return err
		}
		s.pieces = append(s.pieces, filetree.Extent{Size: size, At: at})
	}
	if more == 0 {
		return s.done(p, t)
	}
	if len(s.pieces) > maxSparseMap/24 {
		return fmt.Errorf("sparse map of more than %d pieces", len(s.pieces))
	}
	entry := *t
	p.pending = true
	p.want(entry.Offset, Block, func(b []byte) error {
		entry.Offset += Block
		return s.fields(p, &entry, b[:504], b[504])
	})
	return nil
}

// pax reads the map of a PAX entry: in its records, or at the beginning of the data.
func (s *sparseReader) pax(p *Parser, t *Header) error {
	s.pieces = nil
	if p.pax.gnu.name != "" {
		t.Path = p.pax.gnu.name
	}
	size, err := strconv.ParseInt(p.pax.gnu.size, 10, 64)
	if err != nil || t.Kind != Regular {
		return fmt.Errorf("%w: sparse file without a size", ErrTar)
	}
	t.Size = size
	version := p.pax.gnu.version()
	switch version {
	case "":
		if err := s.numbers(strings.Split(p.pax.gnu.offsets, ",")); err != nil {
			return err
		}
		return s.done(p, t)
	case "1.0":
		return s.lines(p, t, nil)
	}
	return fmt.Errorf("sparse file of unknown version %.20q", version)
}

// lines reads the map of version 1.0: how many pieces, then offset and size of each, a line each, padded to a block.
func (s *sparseReader) lines(p *Parser, t *Header, text []byte) error {
	entry := *t
	p.pending = true
	p.want(entry.Offset, Block, func(b []byte) error {
		text = append(text, b...)
		entry.Offset += Block
		if entry.stored -= Block; entry.stored < 0 || len(text) > maxSparseMap {
			return fmt.Errorf("%w: sparse map", ErrTar)
		}
		first, _, ok := bytes.Cut(text, []byte("\n"))
		if !ok {
			return s.lines(p, &entry, text)
		}
		n, err := strconv.ParseUint(string(first), 10, 20)
		if err != nil {
			return fmt.Errorf("%w: sparse map", ErrTar)
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
		return fmt.Errorf("%w: sparse map", ErrTar)
	}
	for ; len(list) > 0; list = list[2:] {
		at, err := strconv.ParseInt(list[0], 10, 64)
		if err != nil {
			return fmt.Errorf("%w: sparse map", ErrTar)
		}
		size, err := strconv.ParseInt(list[1], 10, 64)
		if err != nil {
			return fmt.Errorf("%w: sparse map", ErrTar)
		}
		s.pieces = append(s.pieces, filetree.Extent{Size: size, At: at})
	}
	return nil
}

// done checks the map and hands the entry on.
func (s *sparseReader) done(p *Parser, t *Header) error {
	end, sum := int64(0), int64(0)
	for _, e := range s.pieces {
		if e.At < end || e.Size < 0 || e.At > t.Size || e.Size > t.Size-e.At {
			return fmt.Errorf("%w: sparse map", ErrTar)
		}
		end, sum = e.At+e.Size, sum+e.Size
	}
	if t.Size < 0 || sum != t.stored {
		return fmt.Errorf("%w: sparse map of %d bytes, data of %d", ErrTar, sum, t.stored)
	}
	t.Kind, t.Sparse = Regular, s.pieces
	if t.Sparse == nil {
		t.Sparse = []filetree.Extent{} // one hole
	}
	s.pieces = nil
	return p.done(t)
}
