package remote

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Limits of a table.
const (
	maxTable   = 3 << 20  // bytes, without compression
	maxValue   = 64 << 10 // bytes of a value
	maxName    = 256      // bytes of a step's name
	maxLayers  = 400      // of a segment: fewer than image.MaxLayers, which a manifest may have
	headerSize = 32
	recordSize = 64
	blobSize   = 80
)

const (
	tableMagic   = "FCR1"
	tableVersion = 1
	flagSigned   = 1
	kindLayer    = 1
	kindValue    = 2
)

// A table is the records of a segment, sorted by key.
type table struct {
	records []Record
	signer  keyID // zero if nobody has signed it
}

// find is the record of a key, nil if there is none.
func (t *table) find(k [32]byte) *Record {
	i, ok := slices.BinarySearchFunc(t.records, k, func(r Record, k [32]byte) int { return bytes.Compare(r.Key[:], k[:]) })
	if !ok {
		return nil
	}
	return &t.records[i]
}

// An encoder gathers the parts of a table.
type encoder struct {
	records, blobs, ext []byte
	blobAt              map[digest.Digest]uint32
	textAt              map[string]uint32
}

// text is where a string lies in the last part.
func (e *encoder) text(s string) uint32 {
	at, ok := e.textAt[s]
	if !ok {
		at = uint32(len(e.ext))
		e.textAt[s] = at
		e.ext = binary.AppendUvarint(e.ext, uint64(len(s)))
		e.ext = append(e.ext, s...)
	}
	return at
}

// blob is the number of a layer's blob.
func (e *encoder) blob(l image.Layer) (uint32, error) {
	at, ok := e.blobAt[l.Blob.Digest]
	if ok {
		return at, nil
	}
	form := slices.Index(mediaTypes(), l.Blob.MediaType)
	if form <= 0 || image.CheckDescriptor(l.Blob) != nil || image.CheckDigest(l.DiffID) != nil {
		return 0, fmt.Errorf("layer %s of type %q cannot be kept in a table", l.DiffID, l.Blob.MediaType)
	}
	at = uint32(len(e.blobs) / blobSize)
	e.blobAt[l.Blob.Digest] = at
	e.blobs = append(e.blobs, rawDigest(l.DiffID)...)
	e.blobs = append(e.blobs, rawDigest(l.Blob.Digest)...)
	e.blobs = binary.LittleEndian.AppendUint64(e.blobs, uint64(l.Blob.Size))
	e.blobs = append(e.blobs, byte(form), 0, 0, 0, 0, 0, 0, 0)
	return at, nil
}

// encodeTable writes a table of records, which are sorted and have different keys, signed by key unless that is nil for what bound says.
// It is not compressed yet.
func encodeTable(records []Record, key *Signer, bound string) ([]byte, error) {
	e := encoder{blobAt: map[digest.Digest]uint32{}, textAt: map[string]uint32{}}
	for i := range records {
		if err := e.add(&records[i]); err != nil {
			return nil, err
		}
	}
	flags := uint16(0)
	if key != nil {
		flags |= flagSigned
	}
	out := append(make([]byte, 0, headerSize+len(e.records)+len(e.blobs)+len(e.ext)+trailerSize), tableMagic...)
	out = binary.LittleEndian.AppendUint16(out, tableVersion)
	out = binary.LittleEndian.AppendUint16(out, flags)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(records)))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(e.blobAt)))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(e.ext)))
	out = append(out, make([]byte, headerSize-len(out))...)
	out = append(append(append(out, e.records...), e.blobs...), e.ext...)
	if key != nil {
		out = key.sign(out, bound)
	}
	if len(out) > maxTable {
		return nil, fmt.Errorf("table has %d bytes, more than %d", len(out), maxTable)
	}
	return out, nil
}

func (e *encoder) add(r *Record) error {
	kind, at := byte(kindLayer), uint32(0)
	if r.IsValue() {
		if len(r.Value) > maxValue {
			return fmt.Errorf("value has %d bytes, more than %d", len(r.Value), maxValue)
		}
		kind, at = kindValue, e.text(r.Value)
	} else {
		var err error
		if at, err = e.blob(r.Layer); err != nil {
			return err
		}
	}
	out := append(e.records, r.Key[:]...)
	out = append(out, kind, 0)
	out = binary.LittleEndian.AppendUint16(out, uint16(r.Used))
	out = binary.LittleEndian.AppendUint32(out, uint32(min(r.Cost.Milliseconds(), 1<<32-1)))
	out = binary.LittleEndian.AppendUint64(out, uint64(r.Created.UnixMicro()))
	out = binary.LittleEndian.AppendUint32(out, at)
	out = binary.LittleEndian.AppendUint32(out, e.text(clip(r.Name, maxName)))
	e.records = append(out, make([]byte, 8)...)
	return nil
}

// clip is as much of a string as fits, without half a character at the end.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func rawDigest(d digest.Digest) []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = unhex(d.Encoded()[2*i])<<4 | unhex(d.Encoded()[2*i+1])
	}
	return b
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

var errTable = errors.New("is not a table of records")

// decodeTable reads a table that is not compressed. Who has signed it is not checked here. Every number in it is held to the table's
// length before it is used.
func decodeTable(raw []byte) (*table, error) {
	if len(raw) > maxTable || len(raw) < headerSize || string(raw[:4]) != tableMagic {
		return nil, errTable
	}
	if v := binary.LittleEndian.Uint16(raw[4:]); v != tableVersion {
		return nil, fmt.Errorf("table of version %d is newer than this forge", v)
	}
	flags := binary.LittleEndian.Uint16(raw[6:])
	n, nblobs, ext := binary.LittleEndian.Uint32(raw[8:]), binary.LittleEndian.Uint32(raw[12:]), binary.LittleEndian.Uint32(raw[16:])
	size := uint64(headerSize) + uint64(n)*recordSize + uint64(nblobs)*blobSize + uint64(ext)
	if flags&flagSigned != 0 {
		size += uint64(trailerSize)
	}
	if size != uint64(len(raw)) || nblobs > n {
		return nil, errTable
	}
	t := &table{records: make([]Record, n)}
	if flags&flagSigned != 0 {
		t.signer = keyID(raw[len(raw)-trailerSize+1:])
		raw = raw[:len(raw)-trailerSize]
	}
	recordPart, rest := raw[headerSize:][:n*recordSize], raw[headerSize+n*recordSize:]
	layers, err := decodeBlobs(rest[:nblobs*blobSize])
	if err != nil {
		return nil, err
	}
	texts := string(rest[nblobs*blobSize:]) // which the records share: many may have one text
	for i := range t.records {
		if err := decodeRecord(recordPart[i*recordSize:][:recordSize], layers, texts, &t.records[i]); err != nil {
			return nil, err
		}
		if i > 0 && bytes.Compare(t.records[i-1].Key[:], t.records[i].Key[:]) >= 0 {
			return nil, errTable
		}
	}
	return t, nil
}

func decodeBlobs(raw []byte) ([]image.Layer, error) {
	layers := make([]image.Layer, len(raw)/blobSize)
	for i := range layers {
		b := raw[i*blobSize:][:blobSize]
		size, form := binary.LittleEndian.Uint64(b[64:]), int(b[72])
		if form < 1 || form >= len(mediaTypes()) || size > 1<<50 {
			return nil, errTable
		}
		layers[i] = image.Layer{
			DiffID: digest.NewDigestFromBytes(digest.SHA256, b[:32]),
			Blob: ocispec.Descriptor{
				MediaType: mediaTypes()[form], Digest: digest.NewDigestFromBytes(digest.SHA256, b[32:64]), Size: int64(size),
			},
		}
	}
	return layers, nil
}

func decodeRecord(b []byte, layers []image.Layer, texts string, r *Record) error {
	copy(r.Key[:], b)
	r.Used = Day(binary.LittleEndian.Uint16(b[34:]))
	r.Cost = time.Duration(binary.LittleEndian.Uint32(b[36:])) * time.Millisecond
	r.Created = time.UnixMicro(int64(binary.LittleEndian.Uint64(b[40:]))).UTC()
	at := binary.LittleEndian.Uint32(b[48:])
	var err error
	switch b[32] {
	case kindLayer:
		if int64(at) >= int64(len(layers)) {
			return errTable
		}
		r.Layer = layers[at]
	case kindValue:
		if r.Value, err = textAt(texts, at, maxValue); err != nil {
			return err
		}
	default:
		return errTable
	}
	if y := r.Created.Year(); y < 1 || y > 9999 {
		return errTable // no configuration of an image could say so
	}
	r.Name, err = textAt(texts, binary.LittleEndian.Uint32(b[52:]), maxName)
	return err
}

func textAt(texts string, at uint32, most int) (string, error) {
	if int64(at) >= int64(len(texts)) {
		return "", errTable
	}
	n, k := binary.Uvarint([]byte(texts[at:min(len(texts), int(at)+binary.MaxVarintLen64)]))
	if k <= 0 || n > uint64(most) || n > uint64(len(texts)-int(at)-k) {
		return "", errTable
	}
	return texts[int(at)+k:][:n], nil
}

// compress makes a zstd frame, as tables travel.
func compress(raw []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return w.EncodeAll(raw, nil), w.Close()
}

// decompress reads a zstd frame of at most maxTable bytes.
func decompress(frame []byte) ([]byte, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxTable))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := r.DecodeAll(frame, nil)
	if err != nil || len(raw) > maxTable {
		return nil, errTable
	}
	return raw, nil
}
