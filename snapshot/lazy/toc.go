package lazy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

const (
	firstTail = 256 << 10 // bytes of the blob's end that are fetched first; most tables are in it
	maxPacked = 32 << 20  // bytes of a table of contents as it is fetched
	maxTOC    = 64 << 20  // and unpacked
	maxEntry  = 1 << 20   // bytes of one of its entries
	maxThings = 1 << 18   // entries and extended attributes; of regular files with digests, maxTOC holds fewer
	maxDevice = 1 << 40   // bytes of all files of a layer
	maxFrame  = 32 << 20  // bytes of what is compressed by itself
	minPiece  = 4 << 10   // bytes of a piece of a file that is not its last
	maxPiece  = 32 << 20  // bytes of a piece of a file, which has 4 MiB where people do not say otherwise
)

// A tail is the end of a blob.
type tail struct {
	from int64
	data []byte
}

// ReadAt implements io.ReaderAt.
func (t *tail) ReadAt(p []byte, off int64) (int, error) {
	if off < t.from || off > t.from+int64(len(t.data)) {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, t.data[off-t.from:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// table fetches the table of contents of a blob of so many bytes. It returns where it begins.
func table(ctx context.Context, size int64, want digest.Digest, fetch Fetch) (raw []byte, at int64, err error) {
	t := &tail{from: max(0, size-firstTail)}
	if t.data, err = read(ctx, fetch, t.from, size); err != nil {
		return nil, 0, err
	}
	at, _, err = estargz.OpenFooter(io.NewSectionReader(t, 0, size))
	if err != nil {
		return nil, 0, fmt.Errorf("no eStargz: %w", err)
	}
	if at < 0 || at >= size || size-at > maxPacked {
		return nil, 0, fmt.Errorf("table of contents at byte %d of %d", at, size)
	}
	if at < t.from {
		more, err := read(ctx, fetch, at, t.from)
		if err != nil {
			return nil, 0, err
		}
		t.from, t.data = at, slices.Concat(more, t.data)
	}
	raw, err = unpack(t.data[at-t.from:], want)
	return raw, at, err
}

// read fetches bytes of the blob.
func read(ctx context.Context, fetch Fetch, from, to int64) ([]byte, error) {
	body, err := fetch(ctx, from, to)
	if err != nil {
		return nil, err
	}
	b := make([]byte, to-from)
	_, err = io.ReadFull(body, b)
	return b, errors.Join(err, body.Close())
}

// unpack unpacks a table, and holds it to its digest before it is believed.
func unpack(packed []byte, want digest.Digest) ([]byte, error) {
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	files := tar.NewReader(unpacked)
	h, err := files.Next()
	switch {
	case err != nil:
		return nil, err
	case h.Name != estargz.TOCTarName || h.Size > maxTOC:
		return nil, fmt.Errorf("table of contents: %.300q of %d bytes", h.Name, h.Size)
	}
	raw := make([]byte, h.Size)
	if _, err := io.ReadFull(files, raw); err != nil {
		return nil, err
	}
	if got := digest.FromBytes(raw); got != want {
		return nil, fmt.Errorf("table of contents has digest %s, and the manifest says %.300q", got, want)
	}
	return raw, nil
}

// An entries reads a table entry by entry, so that no more of it is in memory than is needed. It is the reader of its decoder, and gives that no
// entry that is too long.
type entries struct {
	*json.Decoder
	raw *bytes.Reader
}

func newEntries(raw []byte) *entries {
	e := &entries{raw: bytes.NewReader(raw)}
	e.Decoder = json.NewDecoder(e)
	return e
}

// Read implements io.Reader.
func (e *entries) Read(p []byte) (int, error) {
	given := e.raw.Size() - int64(e.raw.Len())
	most := e.InputOffset() + maxEntry - given
	if most <= 0 {
		return 0, fmt.Errorf("more than %d bytes at byte %d are one entry", maxEntry, e.InputOffset())
	}
	return e.raw.Read(p[:min(int64(len(p)), most)])
}

// each gives one entry after the other to do, which may not keep it.
func (e *entries) each(do func(*estargz.TOCEntry) error) error {
	if err := e.delim('{'); err != nil {
		return err
	}
	for e.More() {
		key, err := e.Token()
		if err != nil {
			return err
		}
		if key != "entries" {
			if err := e.Decode(new(json.RawMessage)); err != nil {
				return err
			}
			continue
		}
		if err := e.delim('['); err != nil {
			return err
		}
		for e.More() {
			var entry estargz.TOCEntry
			if err := e.Decode(&entry); err != nil {
				return fmt.Errorf("%.300s", err.Error()) // which quotes numbers
			}
			if err := do(&entry); err != nil {
				return err
			}
		}
		if err := e.delim(']'); err != nil {
			return err
		}
	}
	return e.delim('}')
}

func (e *entries) delim(want json.Delim) error {
	got, err := e.Token()
	if err == nil && got != want {
		err = fmt.Errorf("byte %d is not %s", e.InputOffset(), want)
	}
	return err
}

// parse makes what an index is made of, and the chunks of the files, out of a table. end is where in the blob the table begins.
func (l *Layer) parse(raw []byte, end int64) error {
	things := 0
	err := newEntries(raw).each(func(e *estargz.TOCEntry) error {
		if things += 1 + len(e.Xattrs); things > maxThings {
			return fmt.Errorf("more than %d files, pieces and extended attributes", maxThings)
		}
		return l.add(e, end)
	})
	if err != nil {
		return fmt.Errorf("table of contents: %w", err)
	}
	return l.whole(end)
}

// add takes an entry of a table.
func (l *Layer) add(e *estargz.TOCEntry, end int64) error {
	if e.Type != "chunk" {
		h, err := header(e)
		if err != nil {
			return fmt.Errorf("%.300q: %w", e.Name, err)
		}
		if h.Size < 0 || h.Size > maxDevice-l.size {
			return fmt.Errorf("%.300q: %d bytes", e.Name, h.Size)
		}
		h.Offset = l.size
		l.headers = append(l.headers, h)
		l.size += layertar.Padded(h.Size)
		if h.Size == 0 {
			return nil
		}
	}
	if len(l.headers) == 0 {
		return errors.New("it begins with the middle of a file")
	}
	file := &l.headers[len(l.headers)-1]
	c, err := chunkOf(e, file, end)
	if err != nil {
		return fmt.Errorf("%.300q: %w", file.Path, err)
	}
	l.chunks = append(l.chunks, c)
	return nil
}

// header is an entry as a tar has it.
func header(e *estargz.TOCEntry) (h layertar.Header, err error) {
	kinds := map[string]byte{
		"dir": layertar.Directory, "reg": layertar.Regular, "symlink": layertar.Symlink, "hardlink": layertar.HardLink,
		"char": layertar.CharDevice, "block": layertar.BlockDevice, "fifo": layertar.FIFO,
	}
	kind, ok := kinds[e.Type]
	if !ok {
		return h, fmt.Errorf("unknown type %.300q", e.Type)
	}
	if err := errors.Join(checkText(e.Name), checkText(e.LinkName)); err != nil {
		return h, err
	}
	h.Path, h.Kind, h.Target = e.Name, kind, e.LinkName
	h.Mode, h.UID, h.GID = uint32(e.Mode)&0o7777, uint32(e.UID), uint32(e.GID)
	if kind == layertar.Regular {
		h.Size = e.Size
	}
	if e.ModTime3339 != "" {
		if h.ModTime, err = time.Parse(time.RFC3339, e.ModTime3339); err != nil {
			return h, fmt.Errorf("modification time %.300q", e.ModTime3339)
		}
	}
	if kind == layertar.CharDevice || kind == layertar.BlockDevice {
		if e.DevMajor < 0 || e.DevMajor >= 1<<12 || e.DevMinor < 0 || e.DevMinor >= 1<<20 {
			return h, fmt.Errorf("device %d:%d", e.DevMajor, e.DevMinor)
		}
		h.Rdev = unix.Mkdev(uint32(e.DevMajor), uint32(e.DevMinor))
	}
	for name, value := range e.Xattrs {
		if !filetree.KeepXattr(name) {
			continue
		}
		if err := checkText(name); err != nil {
			return h, err
		}
		if h.Xattrs == nil {
			h.Xattrs = map[string]string{}
		}
		h.Xattrs[name] = string(value)
	}
	return h, nil
}

// checkText returns an error for a name that may be another in the tar: two that differ there can be the same in a table.
func checkText(s string) error {
	if strings.ContainsRune(s, utf8.RuneError) {
		return fmt.Errorf("%.300q has U+FFFD, which a table of contents has in place of what is not UTF-8", s)
	}
	return nil
}

// chunkOf is the part of a file that an entry tells of.
func chunkOf(e *estargz.TOCEntry, file *layertar.Header, end int64) (c chunk, err error) {
	c = chunk{at: file.Offset + e.ChunkOffset, size: e.ChunkSize, from: e.Offset, skip: e.InnerOffset}
	left := file.Size - e.ChunkOffset
	if c.size == 0 {
		c.size = left
	}
	switch hexadecimal, ok := strings.CutPrefix(e.ChunkDigest, "sha256:"); {
	case e.ChunkOffset < 0, c.size <= 0, c.size > left, c.size > maxPiece, c.size < min(left, minPiece), c.from < 0, c.from >= end, c.skip < 0, c.skip > maxSkip:
		return c, fmt.Errorf("a chunk of %d bytes at %d of %d, at byte %d of the layer", c.size, e.ChunkOffset, file.Size, c.from)
	case !ok || len(hexadecimal) != 2*sha256.Size:
		return c, fmt.Errorf("a chunk without a digest: %.300q", e.ChunkDigest)
	default:
		_, err = hex.Decode(c.sum[:], []byte(hexadecimal))
		return c, err
	}
}

// whole holds that the chunks are all of the files, in their order, and finds where each ends in the blob.
func (l *Layer) whole(end int64) error {
	left := l.chunks
	for i := range l.headers {
		h := &l.headers[i]
		for at := int64(0); at < h.Size; {
			if len(left) == 0 || left[0].at != h.Offset+at {
				return fmt.Errorf("%.300q: nothing says where its byte %d is", h.Path, at)
			}
			at += left[0].size
			left = left[1:]
		}
	}
	if len(left) > 0 {
		return errors.New("chunks of no file")
	}
	starts := []int64{end}
	for i := range l.chunks {
		starts = append(starts, l.chunks[i].from)
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	for i := range l.chunks {
		at, _ := slices.BinarySearch(starts, l.chunks[i].from)
		l.chunks[i].to = starts[at+1]
		if n := l.chunks[i].to - l.chunks[i].from; n > maxFrame {
			return fmt.Errorf("a piece of %d bytes at byte %d of the layer", n, l.chunks[i].from)
		}
	}
	return nil
}
