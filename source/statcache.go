package source

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
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
//	header   magic [8], records uint32, bits uint32
//	buckets  1<<bits + 1 uint32: the first record of each bucket
//	records  sorted by bucket: inode, size, mtime ns, ctime ns uint64; device, mode uint32; SHA-256 [32]; age uint32, zero uint32
//	end      CRC-32C of all before it uint32
//
// The bucket of a record is the top bits of a hash of its inode without the last six bits, followed by these: files that were made
// one after the other, as most of a directory are, lie together. The name is no part of it: a renamed file keeps its inode and
// content, and hard links share both. Age counts how often it was written without the file having been seen.
const (
	statsMagic  = "forgeix2"
	statsHeader = 16
	statsRecord = 80
	statsEnd    = 4
	statsMaxAge = 8
	statsNear   = 6                  // bits of an inode that are not hashed
	statsMost   = 24                 // bits
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
	if err != nil || !info.Mode().IsRegular() || info.Size() < statsHeader+statsEnd || info.Size() > 1<<32 {
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
		if isDamage(file) {
			damaged = append(damaged, file)
		}
	}
	return damaged, nil
}

// isDamage reports whether a file that cannot be read as a stat cache is none of an earlier version either, and not empty, as a power cut leaves
// one that was not synced.
func isDamage(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close() //nolint:errcheck // read only
	magic := make([]byte, len(statsMagic))
	_, err = io.ReadFull(f, magic)
	return !errors.Is(err, io.EOF) && (err != nil || string(magic) != "forgeix1")
}

// parse checks all of b and takes the index from it.
func (x *statCache) parse(b []byte) bool {
	le := binary.LittleEndian
	end := len(b) - statsEnd
	if string(b[:8]) != statsMagic || le.Uint32(b[end:]) != crc32.Checksum(b[:end], crc32.MakeTable(crc32.Castagnoli)) {
		return false
	}
	n, bits := uint64(le.Uint32(b[8:])), le.Uint32(b[12:])
	first := statsHeader + (1<<bits+1)*4
	if bits < statsNear || bits > statsMost || uint64(end) != uint64(first)+n*statsRecord {
		return false
	}
	x.bits, x.records = bits, b[first:end]
	buckets := b[statsHeader:first]
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

func (x *statCache) record(i uint32) []byte { return x.records[uint64(i)*statsRecord:][:statsRecord] }

// sum is the digest of record i.
func (x *statCache) sum(i uint32) *[sha256.Size]byte { return (*[sha256.Size]byte)(x.record(i)[40:]) }

// find returns 1 + the number of the record of k, or 0.
func (x *statCache) find(k dirKey) uint32 {
	if x.mapped == nil {
		return 0
	}
	le := binary.LittleEndian
	bucket := statsHeader + 4*bucketOf(k.ino, x.bits)
	first, last := le.Uint32(x.mapped[bucket:]), le.Uint32(x.mapped[bucket+4:])
	for i := first; i < last; i++ {
		if rec := x.record(i); le.Uint64(rec) == k.ino && readKey(rec) == k {
			x.seen[i].Store(true)
			return i + 1
		}
	}
	return 0
}

// rest gives back the memory of what is mapped, until it is looked at again.
func (x *statCache) rest() {
	if x.mapped != nil {
		_ = unix.Madvise(x.mapped, unix.MADV_DONTNEED)
	}
}

func bucketOf(ino uint64, bits uint32) uint64 {
	const near = 1<<statsNear - 1
	return (ino>>statsNear*statsHash)>>(64+statsNear-bits)<<statsNear | ino&near
}

func readKey(b []byte) dirKey {
	le := binary.LittleEndian
	return dirKey{
		ino: le.Uint64(b), size: le.Uint64(b[8:]), mtime: le.Uint64(b[16:]), ctime: le.Uint64(b[24:]),
		dev: le.Uint32(b[32:]), mode: le.Uint32(b[36:]),
	}
}

// close writes the index if there are new digests worth remembering. It takes the list.
func (x *statCache) close(sums []sumRecord) (err error) {
	defer func() {
		if x.mapped != nil {
			err = errors.Join(err, unix.Munmap(x.mapped))
		}
	}()
	fresh := slices.DeleteFunc(sums, func(s sumRecord) bool { return !s.safe })
	slices.SortFunc(fresh, func(a, b sumRecord) int { return a.compare(&b.dirKey) })
	fresh = slices.CompactFunc(fresh, func(a, b sumRecord) bool { return a.dirKey == b.dirKey })
	if x.file == "" || len(fresh) == 0 {
		return nil
	}
	return x.write(fresh)
}

func (k *dirKey) compare(l *dirKey) int {
	return cmp.Or(cmp.Compare(k.ino, l.ino), cmp.Compare(k.dev, l.dev), cmp.Compare(k.size, l.size), cmp.Compare(k.mode, l.mode),
		cmp.Compare(k.mtime, l.mtime), cmp.Compare(k.ctime, l.ctime))
}

// age is how old a record is that is written again: 0 if the file was seen.
func (x *statCache) age(i uint32) uint32 {
	if x.seen[i].Load() {
		return 0
	}
	return binary.LittleEndian.Uint32(x.record(i)[72:]) + 1
}

// order is which records are to be written, by number: the old ones that were seen or are not too old, and, counted behind those, the new
// ones. They are sorted by bucket, and first is where each bucket begins. Of what may be many only numbers are in memory.
func (x *statCache) order(fresh []sumRecord) (sorted, first []uint32, bits uint32) {
	old := x.count()
	all := make([]uint32, 0, int(old)+len(fresh))
	for i := range old + uint32(len(fresh)) {
		if i >= old || x.age(i) <= statsMaxAge {
			all = append(all, i)
		}
	}
	bits = statsNear
	for 1<<bits < len(all) && bits < statsMost {
		bits++
	}
	bucket := func(i uint32) uint64 {
		if i < old {
			return bucketOf(binary.LittleEndian.Uint64(x.record(i)), bits)
		}
		return bucketOf(fresh[i-old].ino, bits)
	}
	first = make([]uint32, 1<<bits+1)
	for _, i := range all {
		first[bucket(i)+1]++
	}
	for b := range first[1:] {
		first[b+1] += first[b]
	}
	sorted, next := make([]uint32, len(all)), slices.Clone(first)
	for _, i := range all {
		b := bucket(i)
		sorted[next[b]] = i
		next[b]++
	}
	return sorted, first, bits
}

// write writes the index anew.
func (x *statCache) write(fresh []sumRecord) error {
	sorted, first, bits := x.order(fresh)
	return replaceFile(x.file, func(w io.Writer) error {
		sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
		out := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)
		le := binary.LittleEndian
		b := le.AppendUint32(le.AppendUint32([]byte(statsMagic), uint32(len(sorted))), bits)
		for _, at := range first {
			if b = le.AppendUint32(b, at); len(b) >= 4<<10 {
				_, _ = out.Write(b) // Flush tells
				b = b[:0]
			}
		}
		for _, i := range sorted {
			if old := x.count(); i < old {
				b = append(b, x.record(i)...)
				le.PutUint32(b[len(b)-8:], x.age(i))
			} else {
				b = fresh[i-old].append(b)
			}
			_, _ = out.Write(b)
			b = b[:0]
		}
		if err := out.Flush(); err != nil {
			return err
		}
		_, err := w.Write(le.AppendUint32(nil, sum.Sum32()))
		return err
	})
}

// append writes a record.
func (s *sumRecord) append(b []byte) []byte {
	le := binary.LittleEndian
	for _, n := range []uint64{s.ino, s.size, s.mtime, s.ctime} {
		b = le.AppendUint64(b, n)
	}
	b = le.AppendUint32(le.AppendUint32(b, s.dev), s.mode)
	return le.AppendUint64(append(b, s.sum[:]...), 0)
}

// replaceFile puts a file at its place. Nothing is synced: a lost stat cache costs a pass over the context.
func replaceFile(file string, content func(w io.Writer) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := durable.Create(file, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := content(f); err != nil {
		return err
	}
	if err := failpoint.At("source.stats.before-rename"); err != nil {
		return err
	}
	return f.Replace()
}
