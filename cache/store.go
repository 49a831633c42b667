package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// An Entry is the remembered answer to a key.
type Entry struct {
	Layer    image.Layer   `json:"layer"`
	Created  time.Time     `json:"created"`
	Duration time.Duration `json:"duration"`
	Name     string        `json:"name"`            // the step's, for people and for Nearest
	Value    string        `json:"value,omitempty"` // an answer that is not a layer, such as a digest of files
	Fields   []Field       `json:"fields"`
}

// A Store is a directory with one small file a key. Safe for concurrent use, by processes too.
//
// Files are renamed into place and not synced: a cache may vanish. What a power cut tears does not match its checksum
// and is a miss. A file's mtime is when its entry was last of use.
type Store struct {
	dir string

	mu  sync.Mutex
	all []Record // for Nearest; nil until it is first asked
}

// A Record is an entry with what its file tells.
type Record struct {
	Key   Key
	Size  int64     // of the file, bytes
	Used  time.Time // when Get or Put last met it
	Entry Entry
}

// file is the content of a file. The checksum is of the key's digits and the bytes of Entry as they stand.
type file struct {
	Sum   string          `json:"sum"`
	Entry json.RawMessage `json:"entry"`
}

// Open opens or makes a store in dir.
func Open(dir string) (*Store, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return &Store{dir: dir}, nil
}

func (s *Store) path(k Key) string { return filepath.Join(s.dir, k.String()) }

func checksum(k Key, entry []byte) string {
	h := sha256.New()
	h.Write([]byte(k.String()))
	h.Write(entry)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Get finds the entry of a key and marks it as used. Anything unreadable is a miss.
func (s *Store) Get(k Key) (Entry, bool) {
	e, err := s.read(k)
	if err != nil {
		return Entry{}, false
	}
	// On a file system that is full or read-only the entry is as good as ever.
	_ = os.Chtimes(s.path(k), time.Time{}, time.Now())
	return e, true
}

var errDamaged = errors.New("damaged cache entry")

func (s *Store) read(k Key) (Entry, error) {
	var f file
	var e Entry
	data, err := os.ReadFile(s.path(k))
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(data, &f); err != nil || f.Sum != checksum(k, f.Entry) {
		return e, errDamaged
	}
	return e, json.Unmarshal(f.Entry, &e)
}

// Put remembers an entry, replacing what was remembered for the key.
func (s *Store) Put(k Key, e Entry) (err error) {
	entry, err := json.Marshal(e)
	if err != nil {
		return err
	}
	data, err := json.Marshal(file{checksum(k, entry), entry})
	if err != nil {
		return err
	}
	f, err := durable.Create(s.path(k), 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := failpoint.At("cache.put.before-rename"); err != nil {
		return err
	}
	if err := f.Replace(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all != nil {
		s.all = append(s.all, Record{Key: k, Entry: e})
	}
	return nil
}

// List reads all entries, the least recently used first. Damaged ones are in it, with their key and an empty Entry.
func (s *Store) List() ([]Record, error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	records := make([]Record, 0, len(files))
	for _, f := range files {
		k, err := ParseKey(f.Name())
		if err != nil {
			continue
		}
		info, err := f.Info()
		if err != nil {
			continue // removed since
		}
		e, err := s.read(k)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			e = Entry{}
		}
		records = append(records, Record{k, info.Size(), info.ModTime(), e})
	}
	slices.SortStableFunc(records, func(a, b Record) int { return a.Used.Compare(b.Used) })
	return records, nil
}

// Remove forgets keys. It is no error if one is not there.
func (s *Store) Remove(keys ...Key) error {
	for _, k := range keys {
		if err := os.Remove(s.path(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = nil
	return nil
}

// Sweep removes what a Put that was killed left behind. The caller makes sure that nobody else is at work.
func (s *Store) Sweep() error { return durable.Sweep(s.dir) }

// A PrunePolicy says which entries to forget; the zero value forgets all.
type PrunePolicy struct {
	Before  time.Time         // forget those last used before; zero is no bound
	MaxSize int64             // forget, least recently used first, until the layers of the rest have at most this many bytes; 0 is no bound
	Size    func(Entry) int64 // of an entry's layer in the store; nil is what its descriptor says
}

// Prune forgets entries by a policy and returns them.
func (s *Store) Prune(p PrunePolicy) ([]Record, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	drop := p.choose(all)
	for _, r := range drop {
		if err := s.Remove(r.Key); err != nil {
			return nil, err
		}
	}
	return drop, nil
}

// choose picks from records in the order of List.
func (p PrunePolicy) choose(all []Record) (drop []Record) {
	if p.Before.IsZero() && p.MaxSize == 0 {
		return all
	}
	size := p.Size
	if size == nil {
		size = func(e Entry) int64 { return e.Layer.Blob.Size }
	}
	for len(all) > 0 && all[0].Used.Before(p.Before) {
		drop, all = append(drop, all[0]), all[1:]
	}
	if p.MaxSize == 0 {
		return drop
	}
	// Entries may share a layer, which then counts once and goes with the last of them.
	holders := map[string]int{}
	var total int64
	for _, r := range all {
		d := string(r.Entry.Layer.DiffID)
		if holders[d]++; holders[d] == 1 {
			total += size(r.Entry)
		}
	}
	for len(all) > 0 && total > p.MaxSize {
		d := string(all[0].Entry.Layer.DiffID)
		if holders[d]--; holders[d] == 0 {
			total -= size(all[0].Entry)
		}
		drop, all = append(drop, all[0]), all[1:]
	}
	return drop
}
