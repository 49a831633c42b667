package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// memory is a cache that can be out of reach.
type memory struct {
	entries map[Key]Entry
	err     error
	asked   int
}

func (m *memory) Get(_ context.Context, k Key) (Entry, bool, error) {
	m.asked++
	e, ok := m.entries[k]
	return e, ok && m.err == nil, m.err
}

func (m *memory) Put(_ context.Context, k Key, e Entry) error {
	if m.err == nil {
		m.entries[k] = e
	}
	return m.err
}

func (m *memory) Nearest(_ context.Context, name string, _ []Field) (Entry, bool, error) {
	for _, e := range m.entries {
		if e.Name == name && m.err == nil {
			return e, true, nil
		}
	}
	return Entry{}, false, m.err
}

func TestTiered(t *testing.T) {
	t.Parallel()
	near, far := open(t), &memory{entries: map[Key]Entry{}}
	both := Tiered(near, far)
	there, here, nowhere := keyOf(Field{"there", nil}), keyOf(Field{"here", nil}), keyOf(Field{"nowhere", nil})
	far.entries[there] = entry("RUN there", 1)
	put(t, near, here, entry("RUN here", 2))

	for range 2 { // the second time near knows
		if e, ok, err := both.Get(t.Context(), there); !ok || err != nil || e.Name != "RUN there" {
			t.Errorf("Get of what far knows = %+v, %v, %v", e, ok, err)
		}
	}
	if _, ok, err := both.Get(t.Context(), here); !ok || err != nil || far.asked != 1 {
		t.Errorf("Get of what near knows = %v, %v; far was asked %d times, want once", ok, err, far.asked)
	}
	if _, ok, err := both.Get(t.Context(), nowhere); ok || err != nil {
		t.Errorf("Get of what nobody knows = %v, %v", ok, err)
	}
	if e, ok, err := both.Nearest(t.Context(), "RUN there", nil); !ok || err != nil || e.Name != "RUN there" {
		t.Errorf("Nearest = %+v, %v, %v", e, ok, err)
	}
	if err := both.Put(t.Context(), nowhere, entry("RUN new", 3)); err != nil || far.entries[nowhere].Name != "RUN new" {
		t.Errorf("Put: %v, far has %+v", err, far.entries[nowhere])
	}

	far.err = errors.New("out of reach")
	if _, ok, err := both.Get(t.Context(), here); !ok || err != nil {
		t.Errorf("Get of what near knows while far is out of reach = %v, %v", ok, err)
	}
	if _, ok, err := both.Get(t.Context(), keyOf()); ok || !errors.Is(err, far.err) {
		t.Errorf("Get while far is out of reach = %v, %v", ok, err)
	}
	if err := both.Put(t.Context(), keyOf(), entry("RUN x", 4)); !errors.Is(err, far.err) {
		t.Errorf("Put while far is out of reach: %v", err)
	}
	if _, ok := get(t, near, keyOf()); !ok {
		t.Error("near does not have what could not be put far")
	}
}

func TestStoreTellsErrorsFromMisses(t *testing.T) {
	t.Parallel()
	s, err := OpenStore[string](filepath.Join(t.TempDir(), "trees"))
	if err != nil {
		t.Fatal(err)
	}
	k := keyOf()
	if err := s.Put(t.Context(), k, "sha256:1"); err != nil {
		t.Fatal(err)
	}
	if v, ok, err := s.Get(t.Context(), k); v != "sha256:1" || !ok || err != nil {
		t.Errorf("Get = %q, %v, %v", v, ok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok, err := s.Get(ctx, k); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("Get with a context that has ended = %v, %v", ok, err)
	}
	if n, err := s.PruneUnused(time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("PruneUnused of an hour = %d, %v, want none", n, err)
	}
	if n, err := s.PruneUnused(time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("PruneUnused of all = %d, %v, want 1", n, err)
	}
	s.dir = filepath.Join(s.dir, strings.Repeat("x", 300)) // ENAMETOOLONG, for root too
	if _, ok, err := s.Get(t.Context(), k); ok || err == nil || os.IsNotExist(err) {
		t.Errorf("Get from a store that cannot be read = %v, %v, want an error", ok, err)
	}
}
