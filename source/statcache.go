package source

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

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// The stat cache of a build context remembers the digests of files by what stat says of them, as git's index does. It is
// mapped, not parsed. All numbers are little-endian.
//
//	header   magic [8], records uint32, bits uint32, CRC-32C of all that follows uint32, zero uint32
//	buckets  1<<bits + 1 uint32: the first record of each bucket
//	records  sorted by bucket: inode, size, mtime ns, ctime ns uint64; device, mode uint32; SHA-256 [32]; age uint32, zero uint32
//
// The bucket of a record is the top bits of its inode times a constant. The name is no part of it: a renamed file keeps
// its inode and content, and hard links share both. Age counts how often it was written without the file having
// been seen.
const (
	statsMagic  = "forgeix1"
	statsHeader = 24
	statsRecord = 80
	statsMaxAge = 8
	statsHash   = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio, as multiplicative hashes use
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

// A statCache is a stat cache as it was when it was opened. Safe for concurrent use.
type statCache struct {
	file    string // "" remembers nothing
	mapped  []byte // the whole file; nil if there is none
	records []byte
	bits    uint32
	seen    []atomic.Bool // by record
}

func (f *dirFile) key() dirKey {
	return dirKey{ino: f.ino, size: uint64(f.size), mtime: uint64(f.mtime), ctime: uint64(f.ctime), dev: f.dev, mode: f.mode}
}

// settled reports whether a file with this ctime that was read at begun can have been changed since without its ctime
// telling: a file system's clock ticks only every few milliseconds, on some every second or two (git calls this racy).
func settled(ctime int64, begun time.Time) bool {
	tick := 20 * time.Millisecond
	if ctime%int64(time.Second) == 0 {
		tick = 2 * time.Second
	}
	return begun.UnixNano()-ctime > int64(tick)
}

// openStatCache maps the index. One that is missing or damaged is empty.
func openStatCache(file string) *statCache {
	x := &statCache{file: file}
	if file == "" {
		return x
	}
	f, err := os.Open(file)
	if err != nil {
		return x
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() < statsHeader+8 || info.Size() > 1<<32 {
		return x
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return x
	}
	if !x.parse(b) {
		_ = unix.Munmap(b)
		return &statCache{file: file}
	}
	x.mapped = b
	return x
}

// DamagedStats names the files of a directory that hold a stat cache and cannot be read. To remove one costs the next build
// of its context a pass over the files.
func DamagedStats(dir string) (damaged []string, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		x := openStatCache(file)
		if x.mapped != nil {
			if err := unix.Munmap(x.mapped); err != nil {
				return damaged, os.NewSyscallError("munmap", err)
			}
			continue
		}
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			damaged = append(damaged, file)
		}
	}
	return damaged, nil
}

// parse checks all of b and takes the index from it.
func (x *statCache) parse(b []byte) bool {
	le := binary.LittleEndian
	if string(b[:8]) != statsMagic || le.Uint32(b[16:]) != crc32.Checksum(b[statsHeader:], crc32.MakeTable(crc32.Castagnoli)) {
		return false
	}
	n, bits := uint64(le.Uint32(b[8:])), le.Uint32(b[12:])
	if bits > 24 || uint64(len(b)) != statsHeader+(1<<bits+1)*4+n*statsRecord {
		return false
	}
	x.bits, x.records = bits, b[uint64(len(b))-n*statsRecord:]
	buckets := b[statsHeader : uint64(len(b))-n*statsRecord]
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

func (x *statCache) count() uint32 { return uint32(len(x.records) / statsRecord) }

// sum is the digest of record i.
func (x *statCache) sum(i uint32) *[sha256.Size]byte {
	return (*[sha256.Size]byte)(x.records[uint64(i)*statsRecord+40:])
}

// find returns 1 + the number of the record of k, or 0.
func (x *statCache) find(k dirKey) uint32 {
	if x.mapped == nil {
		return 0
	}
	le := binary.LittleEndian
	bucket := statsHeader + 4*bucketOf(k.ino, x.bits)
	first, last := le.Uint32(x.mapped[bucket:]), le.Uint32(x.mapped[bucket+4:])
	for i := first; i < last; i++ {
		if readKey(x.records[uint64(i)*statsRecord:]) == k {
			x.seen[i].Store(true)
			return i + 1
		}
	}
	return 0
}

func bucketOf(ino uint64, bits uint32) uint64 { return (ino * statsHash) >> (64 - bits) }

func readKey(b []byte) dirKey {
	le := binary.LittleEndian
	return dirKey{
		ino: le.Uint64(b), size: le.Uint64(b[8:]), mtime: le.Uint64(b[16:]), ctime: le.Uint64(b[24:]),
		dev: le.Uint32(b[32:]), mode: le.Uint32(b[36:]),
	}
}

// close writes the index if there are new digests worth remembering.
func (x *statCache) close(sums []sumRecord) (err error) {
	defer func() {
		if x.mapped != nil {
			err = errors.Join(err, unix.Munmap(x.mapped))
		}
	}()
	fresh := make(map[dirKey]sumRecord, len(sums))
	for _, s := range sums {
		if s.safe {
			fresh[s.dirKey] = s
		}
	}
	if x.file == "" || len(fresh) == 0 {
		return nil
	}
	return writeStats(x.file, x.merge(fresh))
}

// merge is the records to write: the new ones, and the old ones that were seen or are not too old.
func (x *statCache) merge(fresh map[dirKey]sumRecord) []byte {
	le := binary.LittleEndian
	out := make([]byte, 0, len(x.records)+len(fresh)*statsRecord)
	for i := range x.count() {
		rec := x.records[uint64(i)*statsRecord:][:statsRecord]
		if _, again := fresh[readKey(rec)]; again {
			continue
		}
		age := le.Uint32(rec[72:]) + 1
		if x.seen[i].Load() {
			age = 0
		}
		if age <= statsMaxAge {
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

// writeStats puts records in order and the file in its place.
func writeStats(file string, records []byte) (err error) {
	le := binary.LittleEndian
	n := len(records) / statsRecord
	bits := uint32(1)
	for 1<<bits < n && bits < 24 {
		bits++
	}
	order := make([]uint32, n)
	for i := range order {
		order[i] = uint32(i)
	}
	ino := func(i uint32) uint64 { return le.Uint64(records[uint64(i)*statsRecord:]) }
	slices.SortFunc(order, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(bucketOf(ino(a), bits), bucketOf(ino(b), bits)), cmp.Compare(ino(a), ino(b)))
	})
	out := make([]byte, 0, statsHeader+(1<<bits+1)*4+len(records))
	out = append(out, statsMagic...)
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
		out = append(out, records[uint64(i)*statsRecord:][:statsRecord]...)
	}
	le.PutUint32(out[16:], crc32.Checksum(out[statsHeader:], crc32.MakeTable(crc32.Castagnoli)))
	return replaceFile(file, out)
}

// replaceFile puts a file at its place. Nothing is synced: a lost stat cache costs a pass over the context.
func replaceFile(file string, content []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := durable.Create(file, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := failpoint.At("source.stats.before-rename"); err != nil {
		return err
	}
	return f.Replace()
}
