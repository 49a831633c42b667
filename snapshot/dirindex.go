package snapshot

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/failpoint"
)

// The index of a build context remembers the digests of files by what stat says of them, as git's index does. It is
// mapped, not parsed. All numbers are little-endian.
//
//	header   magic [8], records uint32, bits uint32, CRC-32C of all that follows uint32, zero uint32
//	buckets  1<<bits + 1 uint32: the first record of each bucket
//	records  sorted by bucket: inode, size, mtime ns, ctime ns uint64; device, mode uint32; SHA-256 [32]; age uint32, zero uint32
//
// The bucket of a record is the top bits of its inode times a constant. The name is no part of it: a renamed file keeps
// its inode and content, and hard links share both. Age counts how often the index was written without the file having
// been seen.
const (
	indexMagic  = "forgeix1"
	indexHeader = 24
	indexRecord = 80
	indexMaxAge = 8
	indexHash   = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio, as multiplicative hashes use
)

// A dirKey is what must be equal for a digest to be believed.
type dirKey struct {
	ino, size, mtime, ctime uint64
	dev, mode               uint32
}

// A sumRecord is a digest that was computed by this process.
type sumRecord struct {
	dirKey
	sum  [sha256.Size]byte
	safe bool // to remember
}

// A dirIndex is an index as it was when it was opened. Safe for concurrent use.
type dirIndex struct {
	file    string // "" remembers nothing
	mapped  []byte // the whole file; nil if there is none
	records []byte
	bits    uint32
	seen    []atomic.Bool // by record
}

func (f *dirFile) key() dirKey {
	return dirKey{ino: f.ino, size: uint64(f.size), mtime: uint64(f.mtime), ctime: uint64(f.ctime), dev: f.dev, mode: f.mode}
}

// settled tells whether a file with this ctime that was read at begun can have been changed since without its ctime
// telling: a file system's clock ticks only every few milliseconds, on some every second or two (git calls this racy).
func settled(ctime int64, begun time.Time) bool {
	tick := 20 * time.Millisecond
	if ctime%int64(time.Second) == 0 {
		tick = 2 * time.Second
	}
	return begun.UnixNano()-ctime > int64(tick)
}

// openDirIndex maps the index. One that is missing or damaged is empty.
func openDirIndex(file string) *dirIndex {
	x := &dirIndex{file: file}
	if file == "" {
		return x
	}
	f, err := os.Open(file)
	if err != nil {
		return x
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() < indexHeader+8 || info.Size() > 1<<32 {
		return x
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return x
	}
	if !x.parse(b) {
		_ = unix.Munmap(b)
		return &dirIndex{file: file}
	}
	x.mapped = b
	return x
}

// parse checks all of b and takes the index from it.
func (x *dirIndex) parse(b []byte) bool {
	le := binary.LittleEndian
	if string(b[:8]) != indexMagic || le.Uint32(b[16:]) != crc32.Checksum(b[indexHeader:], crc32.MakeTable(crc32.Castagnoli)) {
		return false
	}
	n, bits := uint64(le.Uint32(b[8:])), le.Uint32(b[12:])
	if bits > 24 || uint64(len(b)) != indexHeader+(1<<bits+1)*4+n*indexRecord {
		return false
	}
	x.bits, x.records = bits, b[uint64(len(b))-n*indexRecord:]
	buckets := b[indexHeader : uint64(len(b))-n*indexRecord]
	for prev := uint32(0); len(buckets) > 0; buckets = buckets[4:] {
		at := le.Uint32(buckets)
		if at < prev || uint64(at) > n {
			return false
		}
		prev = at
	}
	x.mapped, x.seen = b, make([]atomic.Bool, n)
	return true
}

func (x *dirIndex) count() uint32 { return uint32(len(x.records) / indexRecord) }

// sum is the digest of record i.
func (x *dirIndex) sum(i uint32) *[sha256.Size]byte {
	return (*[sha256.Size]byte)(x.records[uint64(i)*indexRecord+40:])
}

// find returns 1 + the number of the record of k, or 0.
func (x *dirIndex) find(k dirKey) uint32 {
	if x.mapped == nil {
		return 0
	}
	le := binary.LittleEndian
	bucket := indexHeader + 4*bucketOf(k.ino, x.bits)
	first, last := le.Uint32(x.mapped[bucket:]), le.Uint32(x.mapped[bucket+4:])
	for i := first; i < last; i++ {
		if readKey(x.records[uint64(i)*indexRecord:]) == k {
			x.seen[i].Store(true)
			return i + 1
		}
	}
	return 0
}

func bucketOf(ino uint64, bits uint32) uint64 { return (ino * indexHash) >> (64 - bits) }

func readKey(b []byte) dirKey {
	le := binary.LittleEndian
	return dirKey{
		ino: le.Uint64(b), size: le.Uint64(b[8:]), mtime: le.Uint64(b[16:]), ctime: le.Uint64(b[24:]),
		dev: le.Uint32(b[32:]), mode: le.Uint32(b[36:]),
	}
}

// close writes the index if d has computed digests worth remembering.
func (x *dirIndex) close(d *Dir) (err error) {
	defer func() {
		if x.mapped != nil {
			err = errors.Join(err, unix.Munmap(x.mapped))
		}
	}()
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh := make(map[dirKey]sumRecord, len(d.sums))
	for _, s := range d.sums {
		if s.safe {
			fresh[s.dirKey] = s
		}
	}
	if x.file == "" || len(fresh) == 0 {
		return nil
	}
	return writeIndex(x.file, x.merge(fresh))
}

// merge is the records to write: the new ones, and the old ones that were seen or are not too old.
func (x *dirIndex) merge(fresh map[dirKey]sumRecord) []byte {
	le := binary.LittleEndian
	out := make([]byte, 0, len(x.records)+len(fresh)*indexRecord)
	for i := range x.count() {
		rec := x.records[uint64(i)*indexRecord:][:indexRecord]
		if _, again := fresh[readKey(rec)]; again {
			continue
		}
		age := le.Uint32(rec[72:]) + 1
		if x.seen[i].Load() {
			age = 0
		}
		if age <= indexMaxAge {
			out = append(out, rec...)
			le.PutUint32(out[len(out)-8:], age)
		}
	}
	for _, s := range fresh {
		out = le.AppendUint64(out, s.ino)
		out = le.AppendUint64(out, s.size)
		out = le.AppendUint64(out, s.mtime)
		out = le.AppendUint64(out, s.ctime)
		out = le.AppendUint32(out, s.dev)
		out = le.AppendUint32(out, s.mode)
		out = append(out, s.sum[:]...)
		out = le.AppendUint64(out, 0)
	}
	return out
}

// writeIndex puts records in order and the file in its place.
func writeIndex(file string, records []byte) (err error) {
	le := binary.LittleEndian
	n := len(records) / indexRecord
	bits := uint32(1)
	for 1<<bits < n && bits < 24 {
		bits++
	}
	order := make([]uint32, n)
	for i := range order {
		order[i] = uint32(i)
	}
	ino := func(i uint32) uint64 { return le.Uint64(records[uint64(i)*indexRecord:]) }
	slices.SortFunc(order, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(bucketOf(ino(a), bits), bucketOf(ino(b), bits)), cmp.Compare(ino(a), ino(b)))
	})
	out := make([]byte, 0, indexHeader+(1<<bits+1)*4+len(records))
	out = append(out, indexMagic...)
	out = le.AppendUint32(out, uint32(n))
	out = le.AppendUint32(out, bits)
	out = le.AppendUint64(out, 0) // the CRC, filled in below
	at := 0
	for b := range uint64(1)<<bits + 1 {
		for at < n && bucketOf(ino(order[at]), bits) < b {
			at++
		}
		out = le.AppendUint32(out, uint32(at))
	}
	for _, i := range order {
		out = append(out, records[uint64(i)*indexRecord:][:indexRecord]...)
	}
	le.PutUint32(out[16:], crc32.Checksum(out[indexHeader:], crc32.MakeTable(crc32.Castagnoli)))
	return replaceFile(file, out)
}

// replaceFile writes a file aside and renames it. Nothing is synced: a lost index costs a pass over the context.
func replaceFile(file string, content []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".index-")
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); e != nil && !errors.Is(e, fs.ErrClosed) {
			err = errors.Join(err, e)
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := failpoint.At("snapshot.contexts.before-rename"); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
