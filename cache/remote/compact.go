package remote

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/image"
)

const (
	manySegments  = 16       // from here on an index is made shorter, by one writer in crowdChance
	tooMany       = 40       // and here by every one
	manyInlined   = 64 << 10 // bytes of tables in an index, likewise
	crowdChance   = 4
	fullSegment   = maxLayers * 3 / 4 // layers of a segment that is left as it is
	daysUnused    = 30
	bytesOfLayers = 10 << 30
)

// A Retention says what is forgotten.
type Retention struct {
	Unused int   // days after which a record goes that nobody has used; negative is at once
	Bytes  int64 // of layers; the cheapest to make go first, by their size; 0 is no bound
	Kept   int   // days within which a record was used that stays whatever the others say; 0 is none
}

// DefaultRetention is that of builds.
func DefaultRetention() Retention { return Retention{Unused: daysUnused, Bytes: bytesOfLayers} }

// retention is what a writer goes by.
func (w *writer) retention() Retention {
	if w.keep != nil {
		return *w.keep
	}
	return DefaultRetention()
}

// crowded reports whether an index is to be made shorter now.
func (w *writer) crowded(x *index) bool {
	if w.keep != nil || len(x.segments) >= tooMany {
		return true
	}
	return (len(x.segments) > manySegments || x.inlined() > manyInlined) && w.cache.dice(crowdChance) == 0
}

// A part is a segment with its table.
type part struct {
	segment
	table *table // nil if it cannot be read, or not be written anew: it is left as it is
}

// compact puts the records of many segments of x into few, without those that the retention forgets, and returns what stands for own. If
// it cannot, x stays as it is.
func (w *writer) compact(ctx context.Context, x *index, keep Retention, own []segment) []segment {
	parts := w.parts(ctx, x)
	gone := keep.forgets(parts, today(time.Now()))
	var lists [][]Record
	var rest []segment
	touched := own[:0:0]
	for _, p := range parts {
		left := 0
		if p.table != nil {
			for i := range p.table.records {
				if !gone[p.table.records[i].Key] {
					left++
				}
			}
		}
		if p.table == nil || p.layers >= fullSegment && left*4 >= len(p.table.records)*3 {
			rest = append(rest, p.segment)
			if slices.ContainsFunc(own, func(s segment) bool { return s.d.Digest == p.d.Digest }) {
				touched = append(touched, p.segment)
			}
			continue
		}
		lists = append(lists, p.table.records)
	}
	records := slices.DeleteFunc(merge(lists...), func(r Record) bool { return gone[r.Key] })
	var made []segment
	for _, records := range cut(records) {
		s, err := w.present(ctx, records)
		if err != nil {
			return own
		}
		made = append(made, s)
	}
	x.segments = append(made, rest...)
	return append(touched, made...)
}

// present writes a segment of records, without those whose layers the place has lost.
func (w *writer) present(ctx context.Context, records []Record) (segment, error) {
	s, err := w.segment(ctx, records)
	if !errors.Is(err, image.ErrIncomplete) {
		return s, err
	}
	lost := map[digest.Digest]bool{}
	for _, l := range blobs(records) {
		if ok, err := w.target.Place.Write.Exists(ctx, l.Blob); err != nil {
			return s, err
		} else if !ok {
			lost[l.Blob.Digest] = true
		}
	}
	return w.segment(ctx, slices.DeleteFunc(records, func(r Record) bool { return lost[r.Layer.Blob.Digest] }))
}

// parts reads the tables of an index. Who signs writes anew what is signed by those it trusts, and who does not what nobody has signed:
// nobody vouches for what another could have forged, and nobody takes a signature away.
func (w *writer) parts(ctx context.Context, x *index) []part {
	r := w.cache.reader
	if w.cache.o.Key != nil {
		r.trust = Trust{}.With(w.cache.o.Key)
		for id, key := range w.cache.o.Trust {
			r.trust[id] = key
		}
	}
	parts := make([]part, len(x.segments))
	tables, _ := r.tables(ctx, w.target.Scope, x.segments, maxUnpacked) // what cannot be read is left as it is
	for i, t := range tables {
		parts[i].segment = x.segments[i]
		if t != nil && (w.cache.o.Key != nil || t.signer == (keyID{})) {
			parts[i].table = t
		}
	}
	return parts
}

// forgets are the keys of records that go.
func (k Retention) forgets(parts []part, now Day) map[[32]byte]bool {
	gone := map[[32]byte]bool{}
	var lists [][]Record
	for _, p := range parts {
		if p.table != nil {
			lists = append(lists, p.table.records)
		}
	}
	all := merge(lists...)
	stays := func(r Record) bool { return k.Kept > 0 && int(r.Used)+k.Kept >= int(now) }
	for _, r := range all {
		if stays(r) {
			continue
		}
		if k.Unused < 0 || int(r.Used)+k.Unused < int(now) {
			gone[r.Key] = true
		}
	}
	if k.Bytes <= 0 {
		return gone
	}
	all = slices.DeleteFunc(all, func(r Record) bool { return gone[r.Key] || r.IsValue() })
	// What a second of work costs in bytes decides; a record that was used later stays longer.
	worth := func(r Record) float64 { return float64(r.Cost+time.Second) / float64(r.Layer.Blob.Size+1) }
	order := func(r Record) int { return map[bool]int{false: 1}[stays(r)] } // those that stay take their room first
	slices.SortStableFunc(all, func(a, b Record) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(worth(b), worth(a)), cmp.Compare(b.Used, a.Used))
	})
	var total int64
	counted := map[digest.Digest]bool{}
	for _, r := range all {
		if !counted[r.Layer.Blob.Digest] {
			if total+r.Layer.Blob.Size > k.Bytes && !stays(r) {
				gone[r.Key] = true
				continue
			}
			counted[r.Layer.Blob.Digest] = true
			total += r.Layer.Blob.Size
		}
	}
	return gone
}

// Pruned is what a prune has done to a scope.
type Pruned struct {
	Records, Layers int   // that went
	Bytes           int64 // of those layers
}

// Prune forgets records of a scope. The bytes go when the place collects what no index leads to.
func (c *Cache) Prune(ctx context.Context, t *Target, keep Retention) (p Pruned, err error) {
	w := &writer{cache: c, target: t, keep: &keep}
	s, err := c.shelfOf(ctx, t.Scope)
	if err != nil || s.index == nil {
		return p, err
	}
	w.tag, w.plain = s.tag, s.index.plain
	before := s.index.totals() // enter only reads it
	x, err := w.enter(ctx, s.index, nil)
	if err != nil {
		return p, err
	}
	w.remember(ctx, x)
	after := x.totals() // with what others have added meanwhile
	return Pruned{max(0, before.Records-after.Records), max(0, before.Layers-after.Layers), max(0, before.Bytes-after.Bytes)}, nil
}

func (x *index) totals() (p Pruned) {
	for _, s := range x.segments {
		p.Records += s.records
		p.Layers += s.layers
		p.Bytes += s.bytes
	}
	return p
}
