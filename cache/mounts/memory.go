package mounts

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/snapshot"
)

// A Memory says of which chunks the tar of a directory was made when it was last saved or restored, and which files had gone into it, so that
// those that are as they were need not be read again. The nil Memory knows nothing.
//
// A file is as it was if its inode and the time of its last change are, which nobody can set: also a file of the same size and time in the
// place of another, with its inode, has another one. Files are left out that may have been changed once more in the same tick of the file
// system's clock ([Clock]). What the directory was compared with does not matter: it says nothing about what a place has.
//
// As bytes, little endian:
//
//	header   "FMM1" | parts u32 | chunks u32 | CRC-32C of all that follows u32
//	parts    by key: key [16] | inode u64 | changed, ns u64 | where it begins in the tar u64
//	chunks   in the tar's order: SHA-256 [32] | length u32
type Memory struct {
	parts  []byte // as stored
	chunks []sum
	starts []int64 // of the chunks in the tar, and the end of the last
}

const (
	memoryMagic  = "FMM1"
	memoryHeader = 16
	memoryPart   = 40
	memoryChunk  = 36
	memoryParts  = 1 << 19 // of more files nothing is remembered
)

// A partID is the beginning of the SHA-256 of a part's header: of name, type, owner, size, times and all else that the tar says of a file.
type partID [16]byte

func partKey(header []byte) partID {
	sum := sha256.Sum256(header)
	return partID(sum[:16])
}

// ReadMemory reads what [Saved.Remember] or [Restored.Remember] wrote. Of a file that is missing or damaged nothing is known.
func ReadMemory(path string) *Memory {
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) < memoryHeader || string(raw[:4]) != memoryMagic {
		return nil
	}
	le := binary.LittleEndian
	parts, chunks := int64(le.Uint32(raw[4:])), int64(le.Uint32(raw[8:]))
	body := raw[memoryHeader:]
	if int64(len(body)) != parts*memoryPart+chunks*memoryChunk || le.Uint32(raw[12:]) != checksum(body) {
		return nil
	}
	m := &Memory{parts: body[:parts*memoryPart], starts: make([]int64, 1, chunks+1)}
	for b := body[parts*memoryPart:]; len(b) > 0; b = b[memoryChunk:] {
		m.chunks = append(m.chunks, sum(b[:32]))
		m.starts = append(m.starts, m.starts[len(m.starts)-1]+int64(le.Uint32(b[32:])))
	}
	return m
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// find is where a part began in the tar; -1 if it was not there, or its file may have another content now.
func (m *Memory) find(key partID, e *snapshot.Entry, content int64) int64 {
	if m == nil {
		return -1
	}
	at := func(i int) []byte { return m.parts[i*memoryPart : (i+1)*memoryPart] }
	low, high := 0, len(m.parts)/memoryPart
	for low < high {
		if mid := (low + high) / 2; bytes.Compare(at(mid), key[:]) < 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low*memoryPart == len(m.parts) || !bytes.Equal(at(low)[:16], key[:]) {
		return -1
	}
	le := binary.LittleEndian
	b := at(low)[16:]
	if content > 0 && (e.Inode != le.Uint64(b) || e.Changed != int64(le.Uint64(b[8:])) || e.Changed == 0) {
		return -1
	}
	return int64(le.Uint64(b[16:]))
}

// chunk is the chunk that began at an offset of the tar and was not the last, whose end may be another one's middle; size 0 if none did.
func (m *Memory) chunk(at int64) (s sum, size int64) {
	i, ok := slices.BinarySearch(m.starts, at)
	if !ok || i+1 >= len(m.chunks) {
		return s, 0
	}
	return m.chunks[i], m.starts[i+1] - at
}

// A memoryWriter notes what a [Memory] will know.
type memoryWriter struct {
	parts  []notedPart
	chunks []byte // as stored
}

// A notedPart is a part of a tar, and what its file is like; changed is 0 if no content follows.
type notedPart struct {
	key     partID
	inode   uint64
	changed int64
	at      int64
}

func (w *memoryWriter) part(key partID, e *snapshot.Entry, content, at int64) {
	p := notedPart{key: key, at: at}
	if content > 0 {
		p.inode, p.changed = e.Inode, e.Changed
	}
	w.parts = append(w.parts, p)
}

func (w *memoryWriter) chunk(s sum, size int64) {
	w.chunks = append(w.chunks, s[:]...)
	w.chunks = binary.LittleEndian.AppendUint32(w.chunks, uint32(size))
}

// write writes what is known into a file, without the files that were changed at the time quiet or later: nobody has used the directory at that
// moment, so that each later change gives another time. In the place of a memory that cannot be written, or of one that would be too
// big, there is none.
func (w *memoryWriter) write(path string, quiet int64) error {
	w.parts = slices.DeleteFunc(w.parts, func(p notedPart) bool { return p.changed >= quiet })
	if len(w.parts) > memoryParts {
		return removed(path)
	}
	slices.SortFunc(w.parts, func(a, b notedPart) int {
		return cmp.Or(bytes.Compare(a.key[:], b.key[:]), cmp.Compare(a.at, b.at))
	})
	le := binary.LittleEndian
	b := make([]byte, memoryHeader, memoryHeader+len(w.parts)*memoryPart+len(w.chunks))
	copy(b, memoryMagic)
	le.PutUint32(b[4:], uint32(len(w.parts)))
	le.PutUint32(b[8:], uint32(len(w.chunks)/memoryChunk))
	for _, p := range w.parts {
		b = append(b, p.key[:]...)
		b = le.AppendUint64(b, p.inode)
		b = le.AppendUint64(b, uint64(p.changed))
		b = le.AppendUint64(b, uint64(p.at))
	}
	b = append(b, w.chunks...)
	le.PutUint32(b[12:], checksum(b[memoryHeader:]))
	if err := durable.ReplaceFile(path, b, 0o600); err != nil {
		return errors.Join(err, removed(path))
	}
	return nil
}

func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Clock is the time of the clock that the file system of a directory stamps changes with, as exactly as it stamps them: whatever is changed
// afterwards has this time or a later one.
func Clock(dir string) (ns int64, err error) {
	f, err := os.CreateTemp(dir, ".clock-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	return st.Ctim.Nano(), nil
}

// tableChunks notes the chunks of a table.
func (w *memoryWriter) tableChunks(t *table) {
	w.chunks = make([]byte, 0, len(t.chunks)*memoryChunk)
	for i := range t.chunks {
		w.chunk(t.chunks[i].sum, t.chunks[i].size)
	}
}
