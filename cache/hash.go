package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
)

// A Key names a question: everything that a step's result depends on.
type Key [sha256.Size]byte

// String is the key in hexadecimal, which is also its file's name.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// ParseKey reads what String wrote.
func ParseKey(s string) (Key, error) {
	var k Key
	if b, err := hex.DecodeString(s); err == nil && len(b) == len(k) && hex.EncodeToString(b) == s {
		return Key(b), nil
	}
	return k, fmt.Errorf("key %q: is not %d lower case hexadecimal digits", s, 2*len(k))
}

// A Field is one named part of a key.
//
// Names and values are free, but some names have [Diff] say more: see there.
type Field struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

func (f Field) equal(g Field) bool { return f.Name == g.Name && slices.Equal(f.Values, g.Values) }

// format is hashed first: when what the fields mean changes, it does too, and old entries are never found.
const format = "forge key 1"

// A Hash makes a Key out of named fields and remembers them, so that a miss can say what changed. The zero value is
// ready. Not safe for concurrent use.
type Hash struct {
	hash   hash.Hash
	fields []Field
}

// Field adds a field. Order counts, in fields and in values; whatever has no order is the caller's to sort.
func (h *Hash) Field(name string, values ...string) {
	if h.hash == nil {
		h.hash = sha256.New()
		h.write(format)
	}
	h.write(name)
	h.length(len(values))
	for _, v := range values {
		h.write(v)
	}
	h.fields = append(h.fields, Field{name, slices.Clone(values)})
}

// write hashes a length before the bytes: no two lists of fields may look alike.
func (h *Hash) write(s string) {
	h.length(len(s))
	io.WriteString(h.hash, s)
}

func (h *Hash) length(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.hash.Write(b[:])
}

// Key is the key of the fields so far.
func (h *Hash) Key() Key {
	if h.hash == nil {
		return sha256.Sum256(nil)
	}
	return Key(h.hash.Sum(nil))
}

// Fields are the fields so far.
func (h *Hash) Fields() []Field { return h.fields }
