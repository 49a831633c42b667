package cache

import (
	"time"

	"github.com/forge-build/forge/image"
)

// STUBS.

// A Hash makes a Key out of named fields and remembers them, so that a miss can say what changed. The zero value is ready.
type Hash struct{}

func (h *Hash) Field(name string, values ...string) { panic("stub") }
func (h *Hash) Key() Key                            { panic("stub") }
func (h *Hash) Fields() []Field                     { panic("stub") }

// A Field is one named part of a key.
type Field struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

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
type Store struct{}

func Open(dir string) (*Store, error)     { panic("stub") }
func (s *Store) Get(k Key) (Entry, bool)  { panic("stub") } // anything unreadable is a miss; marks the entry as used
func (s *Store) Put(k Key, e Entry) error { panic("stub") }

// Nearest is the entry with the same Name that shares the most fields with fields, newest first; Diff says which differ.
func (s *Store) Nearest(name string, fields []Field) (Entry, bool) { panic("stub") }
func Diff(old, new []Field) []string                               { panic("stub") }
