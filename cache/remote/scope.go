package remote

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"

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
