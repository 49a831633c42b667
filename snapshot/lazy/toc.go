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
	maxDevice = 1 << 40   // bytes of all files of a layer
	maxFrame  = 32 << 20  // bytes of a piece that is compressed by itself, which is 4 MiB unpacked where people do not say otherwise
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
func table(ctx context.Context, size int64, want digest.Digest, fetch Fetch) (*estargz.JTOC, int64, error) {
	t := &tail{from: max(0, size-firstTail)}
	var err error
	if t.data, err = read(ctx, fetch, t.from, size); err != nil {
		return nil, 0, err
	}
	at, _, err := estargz.OpenFooter(io.NewSectionReader(t, 0, size))
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
	toc, err := parse(t.data[at-t.from:], want)
	return toc, at, err
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

// parse reads a table, and holds it to its digest before it is believed.
func parse(packed []byte, want digest.Digest) (*estargz.JTOC, error) {
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	files := tar.NewReader(unpacked)
	switch h, err := files.Next(); {
	case err != nil:
		return nil, err
	case h.Name != estargz.TOCTarName || h.Size > maxTOC:
		return nil, fmt.Errorf("table of contents: %q of %d bytes", h.Name, h.Size)
	}
	raw, err := io.ReadAll(io.LimitReader(files, maxTOC))
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(raw); got != want {
		return nil, fmt.Errorf("table of contents has digest %s, and the manifest says %s", got, want)
	}
	toc := new(estargz.JTOC)
	return toc, json.Unmarshal(raw, toc)
}

// headers makes what an index is made of, and the chunks of the files, out of a table. end is where in the blob the table begins.
func headers(toc *estargz.JTOC, end int64) (list []layertar.Header, chunks []chunk, size int64, err error) {
	for _, e := range toc.Entries {
		if e == nil {
			return nil, nil, 0, errors.New("table of contents has an entry that is none")
		}
		if e.Type == "chunk" {
			if len(list) == 0 {
				return nil, nil, 0, errors.New("table of contents begins with the middle of a file")
			}
		} else {
			h, err := header(e)
			if err != nil {
				return nil, nil, 0, fmt.Errorf("%s: %w", e.Name, err)
			}
			h.Offset = size
			list = append(list, h)
			if h.Size < 0 || h.Size > maxDevice-size {
				return nil, nil, 0, fmt.Errorf("%s: %d bytes", e.Name, h.Size)
			}
			size += (h.Size + layertar.Block - 1) / layertar.Block * layertar.Block
		}
		file := &list[len(list)-1]
		if e.Type != "chunk" && (e.Type != "reg" || file.Size == 0) {
			continue
		}
		c, err := chunkOf(e, file, end)
		if err != nil {
			return nil, nil, 0, fmt.Errorf("%s: %w", file.Path, err)
		}
		chunks = append(chunks, c)
	}
	return list, chunks, size, whole(list, chunks, end)
}

// header is an entry as a tar has it.
func header(e *estargz.TOCEntry) (h layertar.Header, err error) {
	kinds := map[string]byte{
		"dir": layertar.Directory, "reg": layertar.Regular, "symlink": layertar.Symlink, "hardlink": layertar.HardLink,
		"char": layertar.CharDevice, "block": layertar.BlockDevice, "fifo": layertar.FIFO,
	}
	kind, ok := kinds[e.Type]
	if !ok {
		return h, fmt.Errorf("unknown type %q", e.Type)
	}
	h.Path, h.Kind, h.Target = e.Name, kind, e.LinkName
	h.Mode, h.UID, h.GID = uint32(e.Mode)&0o7777, uint32(e.UID), uint32(e.GID)
	if kind == layertar.Regular {
		h.Size = e.Size
	}
	if e.ModTime3339 != "" {
		if h.ModTime, err = time.Parse(time.RFC3339, e.ModTime3339); err != nil {
			return h, err
		}
	}
	if kind == layertar.CharDevice || kind == layertar.BlockDevice {
		if e.DevMajor < 0 || e.DevMajor >= 1<<12 || e.DevMinor < 0 || e.DevMinor >= 1<<20 {
			return h, fmt.Errorf("device %d:%d", e.DevMajor, e.DevMinor)
		}
		h.Rdev = unix.Mkdev(uint32(e.DevMajor), uint32(e.DevMinor))
	}
	for name, value := range e.Xattrs {
		if filetree.KeepXattr(name) {
			if h.Xattrs == nil {
				h.Xattrs = map[string]string{}
			}
			h.Xattrs[name] = string(value)
		}
	}
	return h, nil
}

// chunkOf is the part of a file that an entry tells of.
func chunkOf(e *estargz.TOCEntry, file *layertar.Header, end int64) (c chunk, err error) {
	c = chunk{at: file.Offset + e.ChunkOffset, size: e.ChunkSize, from: e.Offset, skip: e.InnerOffset}
	if c.size == 0 {
		c.size = file.Size - e.ChunkOffset
	}
	switch hexadecimal, ok := strings.CutPrefix(e.ChunkDigest, "sha256:"); {
	case e.ChunkOffset < 0, c.size <= 0, c.size > file.Size-e.ChunkOffset, c.from < 0, c.from >= end, c.skip < 0, c.skip > maxSkip:
		return c, fmt.Errorf("a chunk of %d bytes at %d of %d, at byte %d of the layer", c.size, e.ChunkOffset, file.Size, c.from)
	case !ok || len(hexadecimal) != 2*sha256.Size:
		return c, fmt.Errorf("a chunk without a digest: %q", e.ChunkDigest)
	default:
		_, err = hex.Decode(c.sum[:], []byte(hexadecimal))
		return c, err
	}
}

// whole holds that the chunks are all of the files, in their order, and finds where each ends in the blob.
func whole(list []layertar.Header, chunks []chunk, end int64) error {
	left := chunks
	for i := range list {
		for at := int64(0); at < list[i].Size; {
			if len(left) == 0 || left[0].at != list[i].Offset+at {
				return fmt.Errorf("%s: nothing says where its byte %d is", list[i].Path, at)
			}
			at += left[0].size
			left = left[1:]
		}
	}
	if len(left) > 0 {
		return errors.New("chunks of no file")
	}
	starts := []int64{end}
	for i := range chunks {
		starts = append(starts, chunks[i].from)
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	for i := range chunks {
		at, _ := slices.BinarySearch(starts, chunks[i].from)
		chunks[i].to = starts[at+1]
		if n := chunks[i].to - chunks[i].from; n > maxFrame {
			return fmt.Errorf("a piece of %d bytes at byte %d of the layer", n, chunks[i].from)
		}
	}
	return nil
}
