package cache

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forge-build/forge/image"
)

// Steps is a directory of answers about steps: a [Cache] on disk.
type Steps struct {
	Store[Entry]
	layers Holder // nil has all

	mu  sync.Mutex
	all []Record[Entry] // for Nearest; nil until it is first asked
}

// A Holder knows which layers are here; *image.Layout is one.
type Holder interface {
	// HaveLayer reports whether a layer is here. If it is, it stays as long as this process.
	HaveLayer(ctx context.Context, l image.Layer) (bool, error)
}

// OpenSteps opens or makes the answers in dir. Layers knows which of the layers that they name are still here; nil has all.
func OpenSteps(dir string, layers Holder) (*Steps, error) {
	s, err := OpenStore[Entry](dir)
	if err != nil {
		return nil, err
	}
	return &Steps{Store: *s, layers: layers}, nil
}

// Get finds the entry of a key and marks it as used. One that is damaged, or whose layer is gone, is as if it were not there.
func (s *Steps) Get(ctx context.Context, k Key) (Entry, bool, error) {
	e, ok, err := s.Store.Get(ctx, k)
	if err != nil || !ok || e.Layer.DiffID == "" || s.layers == nil {
		return e, ok && e.Layer.DiffID != "", err
	}
	here, err := s.layers.HaveLayer(ctx, e.Layer)
	return e, here, err
}

// Fresh reports whether nothing is remembered at all, as on a machine that has built nothing yet.
func (s *Steps) Fresh() bool {
	d, err := os.Open(s.dir)
	if err != nil {
		return true
	}
	defer d.Close()
	names, _ := d.Readdirnames(16) // more than there are stores of other things beside the entries
	return !slices.ContainsFunc(names, func(name string) bool { _, err := ParseKey(name); return err == nil })
}

// Put remembers an entry, in the place of what was remembered for the key.
func (s *Steps) Put(ctx context.Context, k Key, e Entry) error {
	if err := s.Store.Put(ctx, k, e); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all != nil {
		s.all = append(s.all, Record[Entry]{Key: k, Value: e})
	}
	return nil
}

// Remove forgets keys. It is no error if one is not there.
func (s *Steps) Remove(keys ...Key) error {
	s.mu.Lock()
	s.all = nil
	s.mu.Unlock()
	return s.Store.Remove(keys...)
}

// Nearest is the entry with the same name that shares the most fields with fields, newest first. If none has the name,
// because the command in it has changed, it is the entry of the same instruction on the same layers ("below") that shares the most.
func (s *Steps) Nearest(ctx context.Context, name string, fields []Field) (Entry, bool, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, false, err
	}
	return s.nearest(name, fields, func(*Entry) bool { return true })
}

// NearestBefore is what Nearest answered at a time before e was made.
func (s *Steps) NearestBefore(e Entry, t time.Time) (Entry, bool, error) {
	return s.nearest(e.Name, e.Fields, func(other *Entry) bool { return other.Created.Before(t) })
}

// nearest is Nearest among the entries for which ok.
func (s *Steps) nearest(name string, fields []Field, ok func(*Entry) bool) (Entry, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		all, err := s.List()
		if err != nil {
			return Entry{}, false, err
		}
		s.all = append(make([]Record[Entry], 0, len(all)+1), all...) // not nil, even if empty
	}
	var best *Entry
	var bestScore int
	for i := range s.all {
		e := &s.all[i].Value
		points := score(e, name, fields)
		if points > 0 && ok(e) && (best == nil || points > bestScore || points == bestScore && e.Created.After(best.Created)) {
			best, bestScore = e, points
		}
	}
	if best == nil {
		return Entry{}, false, nil
	}
	return *best, true, nil
}

// Absent says nothing: what is here, Nearest finds.
func (s *Steps) Absent(Key, string) []string { return nil }

// score is how near an entry is: a name counts for more than all fields together.
func score(e *Entry, name string, fields []Field) (points int) {
	for _, f := range fields {
		if slices.ContainsFunc(e.Fields, f.equal) {
			points++
		}
	}
	switch {
	case e.Name == name:
		return points + len(fields) + 1
	case len(fields) == 0, instruction(e.Name) != instruction(name), !sameBelow(e.Fields, fields):
		return 0
	}
	return points
}

// sameBelow reports whether two steps stand on the same layers, so that one may have taken the place of the other.
func sameBelow(a, b []Field) bool {
	below := func(f Field) bool { return f.Name == "below" }
	i, j := slices.IndexFunc(a, below), slices.IndexFunc(b, below)
	return i >= 0 && j >= 0 && a[i].equal(b[j])
}

func instruction(name string) string {
	first, _, _ := strings.Cut(name, " ")
	return first
}

// A PrunePolicy says which entries to forget; the zero value forgets all. Where both bounds are given an entry goes only if both let it, as with
// docker: what was used later stays, however large that is.
type PrunePolicy struct {
	Before  time.Time         // forget those last used before; zero is any
	MaxSize int64             // forget, least recently used first, until the layers of the rest have at most this many bytes; 0 is no bound
	Size    func(Entry) int64 // of an entry's layer in the store; nil is what its descriptor says
}

// Chosen are the entries that Prune would forget by a policy.
func (s *Steps) Chosen(p PrunePolicy) ([]Record[Entry], error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	return p.choose(all), nil
}

// Prune forgets entries by a policy and returns them.
func (s *Steps) Prune(p PrunePolicy) ([]Record[Entry], error) {
	drop, err := s.Chosen(p)
	if err != nil {
		return nil, err
	}
	for _, r := range drop {
		if err := s.Remove(r.Key); err != nil {
			return nil, err
		}
	}
	return drop, nil
}

// choose picks from records in the order of List.
func (p PrunePolicy) choose(all []Record[Entry]) []Record[Entry] {
	old := len(all) // how many may go
	if !p.Before.IsZero() {
		old, _ = slices.BinarySearchFunc(all, p.Before, func(r Record[Entry], at time.Time) int { return r.Used.Compare(at) })
	}
	if p.MaxSize == 0 {
		return all[:old]
	}
	size := p.Size
	if size == nil {
		size = func(e Entry) int64 { return e.Layer.Blob.Size }
	}
	// Entries may share a layer, which then counts once and goes with the last of them.
	holders := map[string]int{}
	var total int64
	for _, r := range all {
		d := string(r.Value.Layer.DiffID)
		if holders[d]++; holders[d] == 1 {
			total += size(r.Value)
		}
	}
	n := 0
	for ; n < old && total > p.MaxSize; n++ {
		d := string(all[n].Value.Layer.DiffID)
		if holders[d]--; holders[d] == 0 {
			total -= size(all[n].Value)
		}
	}
	return all[:n]
}
