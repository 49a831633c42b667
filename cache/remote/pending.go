package remote

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/forge-build/forge/image"
)

const (
	touchAfter = 7               // days after which a record that is still of use is written again
	readTime   = 5 * time.Second // that what a target holds is waited for, after a build
)

// Pending are the records that a target is to get, sorted: what the build has used and made, and the target does not know, or has not
// been told for a week is of use. keep are the layers of the image. If this machine remembers that there are none, the place is not
// asked.
func (c *Cache) Pending(ctx context.Context, t *Target, keep []image.Layer) ([]Record, error) {
	out := c.lacking(t, []*shelf{c.reader.remembered(ctx, t.Scope)}, keep)
	if len(out) == 0 {
		return nil, nil
	}
	for _, s := range c.answers() {
		if s.scope.String() == t.String() && s.tag == "" && s.err != nil {
			return nil, nil // that it cannot be asked has been told, and is not waited for again
		}
	}
	own, err := c.shelfOf(ctx, t.Scope)
	if err != nil {
		return nil, err
	}
	shelves := []*shelf{own}
	for _, s := range c.answers() {
		if s.scope.Place.Name == t.Place.Name && s.scope.Name != t.Name {
			shelves = append(shelves, s) // those who read this scope trust that one, too
		}
	}
	return c.lacking(t, shelves, keep), nil
}

// shelfOf is what a scope holds: as the build has read it, or else as it is now.
func (c *Cache) shelfOf(ctx context.Context, scope *Scope) (*shelf, error) {
	for _, s := range slices.Concat(c.kept(), c.answers()) {
		if s.scope.String() == scope.String() && s.tag != "" {
			return s, nil
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readTime, fmt.Errorf("no answer within %s", readTime))
	defer cancel()
	s := c.reader.fresh(ctx, scope)
	if s.tag == "" && s.err != nil {
		return nil, s.err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = append(c.own, s)
	return s, nil
}

// kept are the scopes that were read or written after the build.
func (c *Cache) kept() []*shelf {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.own)
}

// keepShelf takes an index as it was written for what its scope holds. What is in its tables need not be known.
func (c *Cache) keepShelf(scope *Scope, tag string, x *index) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = append([]*shelf{{scope: scope, tag: tag, index: x}}, c.own...)
}

// lacking are the records that shelves, the first of which is the target's own, are without.
func (c *Cache) lacking(t *Target, shelves []*shelf, keep []image.Layer) []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Record
	for _, r := range c.used {
		outside := t.OnlyImage && !r.IsValue() && !slices.ContainsFunc(keep, func(l image.Layer) bool { return l.DiffID == r.Layer.DiffID })
		if !outside && len(r.Value) <= maxValue && lacks(shelves, r) {
			out = append(out, *r)
		}
	}
	return merge(out)
}

func lacks(shelves []*shelf, r *Record) bool {
	for i, s := range shelves {
		known := s.find(r.Key)
		switch {
		case known == nil:
		case known.Layer.DiffID != r.Layer.DiffID || known.Value != r.Value:
			return newer(r, known)
		case i == 0 && int(known.Used)+touchAfter < int(r.Used):
			return true
		default:
			return false
		}
	}
	return true
}
