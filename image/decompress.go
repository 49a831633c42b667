package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// Inflate finds out by its first bytes whether r is gzip, zstd, bzip2 or xz, and returns a reader of what it holds; of
// anything else the bytes as they are, with compressed false. Memory is bounded: dictionaries above 128 MiB are refused.
// Besides decompress, which knows what layers may be, this is for archives that people add to images.
func Inflate(r io.Reader) (content io.ReadCloser, compressed bool, err error) {
	b := bufio.NewReaderSize(r, bufSize)
	magic, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(b)), true, nil
	case bytes.HasPrefix(magic, []byte(xzMagic)):
		return io.NopCloser(&xzReader{r: &xzInput{r: b}}), true, nil
	}
	content, err = decompress(b)
	if err != nil {
		return nil, false, err
	}
	return content, isLayerCompression(magic), nil
}

// isCompressed reports whether [Inflate] inflates what begins so.
func isCompressed(magic []byte) bool {
	return isLayerCompression(magic) || bytes.HasPrefix(magic, []byte("BZh")) || bytes.HasPrefix(magic, []byte(xzMagic))
}

// isLayerCompression reports whether decompress inflates what begins so.
func isLayerCompression(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte{0x1f, 0x8b}) || bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18})
}

// The container of xz is read here, and only its LZMA2 data by a library, because the library takes as large a dictionary
// as a block asks for, which is up to 4 GiB.
const (
	xzMagic   = "\xfd7zXZ\x00"
	maxXZDict = 128 << 20
)

var errXZ = errors.New("xz: damaged")

// An xzInput counts bytes, and hashes them while sum is not nil.
type xzInput struct {
	r   *bufio.Reader
	n   int64
	sum hash.Hash32
}

func (x *xzInput) Read(p []byte) (int, error) {
	n, err := x.r.Read(p)
	x.n += int64(n)
	if x.sum != nil {
		x.sum.Write(p[:n])
	}
	return n, err
}

func (x *xzInput) ReadByte() (byte, error) {
	b, err := x.r.ReadByte()
	if err == nil {
		x.n++
		if x.sum != nil {
			x.sum.Write([]byte{b})
		}
	}
	return b, err
}

// An xzReader reads streams, one after the other. The chunks of all blocks go to one reader of LZMA2, as if they were of one
// block: a dictionary for each would be cleared for each, and 20 bytes of input can ask for 128 MiB.
type xzReader struct {
	r       *xzInput
	check   byte      // its type; 0 outside of a stream
	sum     hash.Hash // of the block, by the type of check; nil checks nothing
	began   int64     // where the block's data begins
	blocks  uint64
	streams int
	inside  bool // of a stream

	lzma  *lzma.Reader2 // nil before the first chunk
	size  int           // of its dictionary
	dict  int           // that the block asks for; 0 between blocks
	first bool          // the next chunk is the first one of its block
	chunk int           // bytes of the chunk that have not been read
}

// Read implements io.Reader. It returns io.EOF only after the last stream has proved whole.
func (x *xzReader) Read(p []byte) (int, error) {
	for {
		if x.chunk > 0 {
			n, err := x.lzma.Read(p[:min(len(p), x.chunk)])
			x.chunk -= n
			if x.sum != nil {
				x.sum.Write(p[:n])
			}
			return n, noEOF(err)
		}
		if x.dict > 0 {
			if err := x.nextChunk(); err != nil {
				return 0, noEOF(err)
			}
			continue
		}
		if !x.inside {
			more, err := x.startStream()
			if err != nil {
				return 0, noEOF(err)
			}
			if !more {
				return 0, io.EOF
			}
		}
		if err := x.next(); err != nil {
			return 0, noEOF(err)
		}
	}
}

// noEOF makes of an end that comes too early what it is.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// startStream reads a stream's header, and the padding that may be before it.
func (x *xzReader) startStream() (more bool, err error) {
	for x.streams > 0 {
		b, err := x.r.r.Peek(4)
		if len(b) == 0 && err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !bytes.Equal(b, make([]byte, 4)) {
			break
		}
		if _, err := x.r.r.Discard(4); err != nil {
			return false, err
		}
	}
	var h [12]byte
	if _, err := io.ReadFull(x.r, h[:]); err != nil {
		return false, err
	}
	if string(h[:6]) != xzMagic || h[6] != 0 || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return false, errXZ
	}
	x.streams++
	x.inside, x.check, x.blocks = true, h[7], 0
	switch x.check {
	case 0, 1, 4, 10:
		return true, nil
	}
	return false, fmt.Errorf("xz: check %d is not known", x.check)
}

// next begins a block, or ends the stream.
func (x *xzReader) next() error {
	x.r.sum = crc32.NewIEEE()
	size, err := x.r.ReadByte()
	if err != nil {
		return err
	}
	if size == 0 {
		return x.endStream()
	}
	header := make([]byte, int(size)*4+3) // without the size, with the CRC
	if _, err := io.ReadFull(x.r, header[:len(header)-4]); err != nil {
		return err
	}
	want := x.r.sum.Sum32()
	x.r.sum = nil
	if _, err := io.ReadFull(x.r, header[len(header)-4:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(header[len(header)-4:]) != want {
		return errXZ
	}
	dict, err := xzDict(header[:len(header)-4])
	if err != nil {
		return err
	}
	x.blocks++
	x.began, x.dict, x.first = x.r.n, dict, true
	switch x.check {
	case 0:
		x.sum = nil
	case 1:
		x.sum = crc32.NewIEEE()
	case 4:
		x.sum = crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		x.sum = sha256.New()
	}
	return nil
}

// nextChunk begins a chunk of LZMA2, whose header the reader of it is left to read, or ends the block.
func (x *xzReader) nextChunk() error {
	h, err := x.r.r.Peek(1)
	if err != nil {
		return err
	}
	control := h[0]
	if control == 0 {
		x.dict = 0
		if _, err := x.r.ReadByte(); err != nil {
			return err
		}
		return x.endBlock()
	}
	// Nothing of the block before may be read in this one.
	if x.first && control != 1 && control < 0xe0 {
		return errXZ
	}
	if h, err = x.r.r.Peek(3); err != nil {
		return err
	}
	x.first, x.chunk = false, int(binary.BigEndian.Uint16(h[1:]))+1
	if control >= 0x80 {
		x.chunk += int(control&0x1f) << 16
	}
	if x.size >= x.dict {
		return nil
	}
	x.size = x.dict
	x.lzma, err = lzma.Reader2Config{DictCap: x.size}.NewReader2(x.r)
	return err
}

// xzDict reads a block's header for the size of its dictionary.
func xzDict(h []byte) (int, error) {
	flags := h[0]
	if flags&0x3c != 0 || flags&3 != 0 {
		return 0, errors.New("xz: filters other than LZMA2 are not supported")
	}
	r := bytes.NewReader(h[1:])
	for _, present := range []byte{0x40, 0x80} { // sizes, compressed and not, that are told in the index too
		if flags&present != 0 {
			if _, err := binary.ReadUvarint(r); err != nil {
				return 0, errXZ
			}
		}
	}
	id, err1 := binary.ReadUvarint(r)
	size, err2 := binary.ReadUvarint(r)
	bits, err3 := r.ReadByte()
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, errXZ
	}
	if id != 0x21 || size != 1 {
		return 0, errors.New("xz: filters other than LZMA2 are not supported")
	}
	if bits > 40 {
		return 0, errXZ
	}
	dict := int64(2|bits&1) << (bits/2 + 11)
	if dict > maxXZDict {
		return 0, fmt.Errorf("xz: a dictionary of %d MiB is more than the %d MiB that are allowed", dict>>20, maxXZDict>>20)
	}
	return int(max(dict, lzma.MinDictCap)), nil
}

// endBlock reads the padding and the check.
func (x *xzReader) endBlock() error {
	size := map[byte]int64{0: 0, 1: 4, 4: 8, 10: 32}[x.check]
	pad := (4 - (x.r.n-x.began)%4) % 4
	end := make([]byte, pad+size)
	if _, err := io.ReadFull(x.r, end); err != nil {
		return err
	}
	if x.sum == nil {
		return nil
	}
	got := x.sum.Sum(nil)
	if x.check != 10 { // the CRCs are little-endian
		for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
			got[i], got[j] = got[j], got[i]
		}
	}
	if !bytes.Equal(got, end[pad:]) || !bytes.Equal(end[:pad], make([]byte, pad)) {
		return errXZ
	}
	return nil
}

// endStream reads the index, whose first byte has been read, and the footer.
func (x *xzReader) endStream() error {
	began := x.r.n - 1
	n, err := binary.ReadUvarint(x.r)
	if err != nil {
		return err
	}
	if n != x.blocks {
		return errXZ
	}
	for range 2 * n {
		if _, err := binary.ReadUvarint(x.r); err != nil {
			return err
		}
	}
	for (x.r.n-began)%4 != 0 {
		if b, err := x.r.ReadByte(); err != nil || b != 0 {
			return cmpErr(err, errXZ)
		}
	}
	want := x.r.sum.Sum32()
	x.r.sum = nil
	var end [4 + 12]byte
	if _, err := io.ReadFull(x.r, end[:]); err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint32(end[:]) != want || le.Uint32(end[4:]) != crc32.ChecksumIEEE(end[8:14]) || string(end[14:]) != "YZ" || end[13] != x.check {
		return errXZ
	}
	x.inside = false
	return nil
}

// cmpErr is err, or otherwise if there is none.
func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
