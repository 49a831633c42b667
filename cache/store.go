package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// A Store is a directory that keeps values under keys, each in a small file. Safe for concurrent use, by processes too.
//
// Files are renamed into place and not synced: a cache may vanish. What a power cut tears does not match its checksum
// and is as if it were not there; of a file that was not written yet it leaves an empty one, which is no damage. A file's mtime is when its
// value was last of use.
type Store[V any] struct {
	dir     string
	Written func(path string) // is told of each file that was put and is not synced, unless nil; set before the first Put
}

// A Record is a value with what its file says of it.
type Record[V any] struct {
	Key     Key
	Size    int64     // of the file, bytes
	Used    time.Time // when Get or Put last met it
	Damaged bool      // the file cannot be read, and Value is zero
	Value   V
}

// A file is {"sum":"…","entry":…}. The checksum is of the key's digits and the bytes of the value as they stand, so that what is around
// them need not be read as JSON, which takes the time of a reading of all.
const (
	fileBegin  = `{"sum":"`
	fileMiddle = `","entry":`
	fileEnd    = `}`
	sumLen     = 32 // hexadecimal digits
)

// wrap makes the content of a file.
func wrap(k Key, value []byte) []byte {
	return slices.Concat([]byte(fileBegin), []byte(checksum(k, value)), []byte(fileMiddle), value, []byte(fileEnd))
}

// unwrap finds the value of a key in the content of a file; false if it is not there as it was written.
func unwrap(k Key, data []byte) (value []byte, ok bool) {
	data, begins := bytes.CutPrefix(data, []byte(fileBegin))
	data, ends := bytes.CutSuffix(data, []byte(fileEnd))
	if !begins || !ends || len(data) < sumLen {
		return nil, false
	}
	value, ok = bytes.CutPrefix(data[sumLen:], []byte(fileMiddle))
	return value, ok && string(data[:sumLen]) == checksum(k, value)
}

// OpenStore opens or makes a store in dir.
func OpenStore[V any](dir string) (*Store[V], error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return &Store[V]{dir: dir}, nil
}

func (s *Store[V]) path(k Key) string { return filepath.Join(s.dir, k.String()) }

func checksum(k Key, value []byte) string {
	h := sha256.New()
	h.Write([]byte(k.String()))
	h.Write(value)
	return hex.EncodeToString(h.Sum(nil)[:sumLen/2])
}

// Get finds the value of a key and marks it as used. A damaged one is as if it were not there.
func (s *Store[V]) Get(ctx context.Context, k Key) (v V, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return v, false, err
	}
	switch v, err = s.read(k); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errDamaged):
		return v, false, nil
	case err != nil:
		return v, false, err
	}
	// On a file system that is full or read-only the value is as good as ever.
	_ = os.Chtimes(s.path(k), time.Time{}, time.Now())
	return v, true, nil
}

// Touch marks a value as used without reading it, and reports whether there is one.
func (s *Store[V]) Touch(k Key) bool {
	err := os.Chtimes(s.path(k), time.Time{}, time.Now())
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}

var errDamaged = errors.New("damaged cache entry")

// read returns errDamaged for what is not a value of k.
func (s *Store[V]) read(k Key) (v V, err error) {
	data, err := os.ReadFile(s.path(k))
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok && pathErr.Op == "read" {
		return v, errDamaged // a directory, or a sector that is gone
	}
	if err != nil {
		return v, err
	}
	if value, ok := unwrap(k, data); !ok || json.Unmarshal(value, &v) != nil {
		var zero V
		return zero, errDamaged
	}
	return v, nil
}

// Put remembers a value, in the place of what was remembered for the key.
func (s *Store[V]) Put(ctx context.Context, k Key, v V) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := durable.Create(s.path(k), 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(wrap(k, value)); err != nil {
		return err
	}
	if err := failpoint.At("cache.put.before-rename"); err != nil {
		return err
	}
	if err := f.Replace(); err != nil {
		return err
	}
	if s.Written != nil {
		s.Written(s.path(k))
	}
	return nil
}

// each calls f for every file of a key, with what is known of it without reading.
func (s *Store[V]) each(f func(k Key, info fs.FileInfo) error) error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		k, err := ParseKey(file.Name())
		if err != nil {
			continue
		}
		info, err := file.Info()
		if err != nil {
			continue // removed since
		}
		if err := f(k, info); err != nil {
			return err
		}
	}
	return nil
}

// List reads all values, the least recently used first, and the damaged ones with them, but no empty files.
func (s *Store[V]) List() (records []Record[V], err error) {
	err = s.each(func(k Key, info fs.FileInfo) error {
		if info.Size() == 0 {
			return nil
		}
		if v, err := s.read(k); !errors.Is(err, fs.ErrNotExist) {
			records = append(records, Record[V]{k, info.Size(), info.ModTime(), err != nil, v})
		}
		return nil
	})
	slices.SortStableFunc(records, func(a, b Record[V]) int { return a.Used.Compare(b.Used) })
	return records, err
}

// Remove forgets keys. It is no error if one is not there.
func (s *Store[V]) Remove(keys ...Key) error {
	for _, k := range keys {
		if err := os.RemoveAll(s.path(k)); err != nil {
			return err
		}
	}
	return nil
}

// Sweep removes what a Put that was killed left behind.
func (s *Store[V]) Sweep() error { return durable.Sweep(s.dir) }

// PruneUnused forgets what was last of use before a time, and returns how many values that were.
func (s *Store[V]) PruneUnused(before time.Time) (n int, err error) {
	err = s.each(func(k Key, info fs.FileInfo) error {
		if !info.ModTime().Before(before) {
			return nil
		}
		n++
		return s.Remove(k)
	})
	return n, err
}

// Limit forgets the least recently used values until the files of the rest have at most so many bytes.
func (s *Store[V]) Limit(most int64) error {
	var total int64
	var all []Record[V] // without values
	err := s.each(func(k Key, info fs.FileInfo) error {
		total += info.Size()
		all = append(all, Record[V]{Key: k, Size: info.Size(), Used: info.ModTime()})
		return nil
	})
	slices.SortFunc(all, func(a, b Record[V]) int { return a.Used.Compare(b.Used) })
	for _, r := range all {
		if err != nil || total <= most {
			break
		}
		total -= r.Size
		err = s.Remove(r.Key)
	}
	return err
}

// Keep forgets the values whose keys are not among those to keep.
func (s *Store[V]) Keep(keys map[Key]bool) error {
	return s.each(func(k Key, _ fs.FileInfo) error {
		if keys[k] {
			return nil
		}
		return s.Remove(k)
	})
}
