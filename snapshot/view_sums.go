package snapshot

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
)

// The content digests of a layer's files are remembered beside its index, so that what is copied from a stage is hashed
// once and not in every build. A file of them is
//
//	"forgesum" | diffID, 64 digits | the index: checksum of its super block, 4 bytes, and its size, 8 | records | SHA-256 of all that
//
// where a record is the slot of an inode, 4 bytes, and the SHA-256 of its content; records are sorted, numbers
// little-endian. A file that is anything else is ignored: it says nothing that the tar does not.
const (
	sumsMagic  = "forgesum"
	sumsRecord = 4 + sha256.Size
	sumsWorth  = 256 << 10 // bytes hashed for nothing before it is worth a file to remember that
)

// A sumsFile remembers the content digests of one layer. Safe for concurrent use.
type sumsFile struct {
	store *Store
	path  string
	head  []byte

	mu     sync.Mutex
	loaded bool
	old    []byte // records of the file
	sums   map[uint32][sha256.Size]byte
	worth  int64 // bytes hashed for sums
}

// newSums prepares to remember the digests of a layer.
func (s *Store) newSums(d digest.Digest, x *erofs.Metadata) *sumsFile {
	head := append([]byte(sumsMagic), d.Encoded()...)
	head = append(head, x.Identity()...)
	return &sumsFile{store: s, path: s.snapshotPath(d, ".sums"), head: head}
}

// get returns the digest of the file in a slot, if it is known.
func (f *sumsFile) get(slot uint32) (sum [sha256.Size]byte, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sum, ok = f.sums[slot]; ok {
		return sum, true
	}
	if !f.loaded {
		f.loaded, f.old = true, f.load()
	}
	i, ok := f.search(slot)
	if ok {
		copy(sum[:], f.old[i*sumsRecord+4:])
	}
	return sum, ok
}

// search finds the record of a slot among the old ones.
func (f *sumsFile) search(slot uint32) (int, bool) {
	lo, hi := 0, len(f.old)/sumsRecord
	for lo < hi {
		mid := (lo + hi) / 2
		switch at := binary.LittleEndian.Uint32(f.old[mid*sumsRecord:]); {
		case at == slot:
			return mid, true
		case at < slot:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, false
}

// load reads the records of the file; none if there is anything wrong with it.
func (f *sumsFile) load() []byte {
	r, err := f.store.layout.Staging().Open(f.path)
	if err != nil {
		return nil
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, filetree.MaxEntries*sumsRecord))
	if err != nil || len(b) < len(f.head)+sha256.Size || !bytes.Equal(b[:len(f.head)], f.head) {
		return nil
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil
	}
	return body[len(f.head):]
}

// put remembers a digest, of a content of some size.
func (f *sumsFile) put(slot uint32, sum [sha256.Size]byte, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sums == nil {
		f.sums = make(map[uint32][sha256.Size]byte)
	}
	f.sums[slot] = sum
	f.worth += size
}

// save stages the file if it is worth it.
func (f *sumsFile) save() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.worth < sumsWorth {
		return nil
	}
	f.worth = 0
	old := f.load() // another may have written it since
	records := make([][]byte, 0, len(old)/sumsRecord+len(f.sums))
	for b := range slices.Chunk(old, sumsRecord) {
		if _, ok := f.sums[binary.LittleEndian.Uint32(b)]; !ok && len(b) == sumsRecord {
			records = append(records, b)
		}
	}
	for slot, sum := range f.sums {
		records = append(records, append(binary.LittleEndian.AppendUint32(nil, slot), sum[:]...))
	}
	slices.SortFunc(records, func(a, b []byte) int {
		return cmp.Compare(binary.LittleEndian.Uint32(a), binary.LittleEndian.Uint32(b))
	})
	b := append(bytes.Clone(f.head), bytes.Join(records, nil)...)
	sum := sha256.Sum256(b)
	file, err := f.store.layout.Staging().Create()
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(append(b, sum[:]...)); err != nil {
		return err
	}
	return file.Commit(f.path)
}
