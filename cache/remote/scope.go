package remote

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
)

// A Scope is a name under which a place keeps a cache.
type Scope struct {
	Place *Place
	Name  string   // plain; signatures are bound to it
	Tags  []string // that may hold it; the first that does not hold something else
}

// String is what to call a scope.
func (s *Scope) String() string { return s.Place.Name + " (" + s.Name + ")" }

// bound is what signatures of the scope are bound to.
func (s *Scope) bound() string { return s.Place.bound(s.Name) }

// memoKey is under which this machine remembers what a tag stood for.
func (s *Scope) memoKey(tag string) cache.Key {
	return sha256.Sum256([]byte("index\x00" + bind(s.Place.Name, s.Name) + "\x00" + tag))
}

// A shelf is what was read of a scope.
type shelf struct {
	scope  *Scope
	tag    string // that holds the index, or is free for one
	index  *index // nil if there is none
	tables []*table
	err    error // why it could not be read, or not all of it
}

// find is the record of a key; the newest segment's.
func (s *shelf) find(k cache.Key) *Record {
	for _, t := range s.tables {
		if r := t.find(k); r != nil {
			return r
		}
	}
	return nil
}

// records is how many records a shelf has.
func (s *shelf) records() (n int) {
	for _, t := range s.tables {
		n += len(t.records)
	}
	return n
}

// A reader reads scopes.
type reader struct {
	memory *cache.Store[[]byte] // of indexes and tables that were read before; may be nil
	trust  Trust
}

// maxFetched is how much of tables a build fetches, bytes as they travel. What is older is not known then.
const maxFetched = 2 << 20

// fresh asks the place for a scope.
func (r *reader) fresh(ctx context.Context, scope *Scope) *shelf {
	s := &shelf{scope: scope}
	if s.err = r.readIndex(ctx, s); s.err != nil || s.index == nil {
		return s
	}
	s.err = r.readTables(ctx, s, maxFetched)
	return s
}

// remembered is a scope as this machine last read it, as far as it remembers.
func (r *reader) remembered(ctx context.Context, scope *Scope) *shelf {
	s := &shelf{scope: scope}
	if r.memory == nil {
		return s
	}
	for _, tag := range scope.Tags {
		raw, ok, err := r.memory.Get(ctx, scope.memoKey(tag))
		if err != nil || !ok {
			continue
		}
		if x, err := parseIndex(raw); err == nil && x.scope == scope.Name {
			s.tag, s.index = tag, x
			_ = r.readTables(ctx, s, 0) // what is not remembered is as if it were not there
			return s
		}
	}
	return s
}

// readIndex finds the tag that holds the scope. What else is found is said, if nothing is free for the scope.
func (r *reader) readIndex(ctx context.Context, s *shelf) error {
	raws, errs := make([][]byte, len(s.scope.Tags)), make([]error, len(s.scope.Tags))
	var g errgroup.Group
	for i, tag := range s.scope.Tags {
		g.Go(func() error {
			raws[i], errs[i] = readTag(ctx, s.scope.Place, tag)
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	var first error
	for i, tag := range s.scope.Tags {
		switch {
		case errors.Is(errs[i], fs.ErrNotExist):
			if s.tag == "" {
				s.tag = tag
			}
			continue
		case errs[i] != nil:
			return errs[i]
		}
		x, err := parseIndex(raws[i])
		if err == nil && x.scope != s.scope.Name {
			err = &foreignError{fmt.Sprintf("the cache of another scope, %q", x.scope)}
		}
		if err == nil {
			s.tag, s.index = tag, x
			if r.memory != nil {
				_ = r.memory.Put(ctx, s.scope.memoKey(tag), raws[i])
			}
			return errors.Join(r.readListed(ctx, s), readLanes(ctx, s))
		}
		if first == nil {
			first = fmt.Errorf("%s: %w", tag, err)
		}
	}
	return first
}

// readTag reads the document that a tag stands for.
func readTag(ctx context.Context, p *Place, tag string) ([]byte, error) {
	d, err := p.Read.Resolve(ctx, p.named(tag))
	if err != nil {
		return nil, err
	}
	if !image.IsDocument(d.MediaType) {
		return nil, &foreignError{"a " + d.MediaType}
	}
	return image.ReadSmall(ctx, p.Read, d)
}

// readTables reads the tables of a shelf's segments, the newest first, fetching at most so many bytes. Tables that cannot be read or
// believed are left out, and the first reason is returned.
func (r *reader) readTables(ctx context.Context, s *shelf, fetch int64) error {
	tables, errs := make([]*table, len(s.index.segments)), make([]error, len(s.index.segments))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range s.index.segments {
		seg := &s.index.segments[i]
		frame := seg.inline
		if frame == nil && r.memory != nil {
			frame, _, _ = r.memory.Get(ctx, memoOf(seg.table))
		}
		if frame != nil {
			tables[i], errs[i] = r.open(frame, s.scope)
			continue
		}
		if fetch -= seg.table.Size; fetch < 0 {
			continue
		}
		g.Go(func() error {
			frame, err := readBlob(gctx, s.scope.Place.Read, seg.table)
			if err == nil {
				tables[i], err = r.open(frame, s.scope)
			}
			if err == nil && r.memory != nil {
				_ = r.memory.Put(ctx, memoOf(seg.table), frame)
			}
			errs[i] = err
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	for _, t := range tables {
		if t != nil {
			s.tables = append(s.tables, t)
		}
	}
	bad := 0
	for _, err := range errs {
		if err != nil {
			bad++
		}
	}
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("%d of %d segments are left out: %w", bad, len(errs), err)
		}
	}
	return nil
}

func memoOf(d ocispec.Descriptor) cache.Key { return sha256.Sum256([]byte("table\x00" + d.Digest)) }

// open reads a table as it travels, and makes sure that it may be believed.
func (r *reader) open(frame []byte, scope *Scope) (*table, error) {
	raw, err := decompress(frame)
	if err != nil {
		return nil, err
	}
	if err := r.trust.check(raw, scope.bound()); err != nil {
		return nil, err
	}
	return decodeTable(raw)
}

// readBlob reads a table as it travels.
func readBlob(ctx context.Context, src image.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxTableFrame {
		return nil, errTable
	}
	return image.ReadSmall(ctx, src, d)
}
