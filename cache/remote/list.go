package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Info says what a place keeps under a scope.
type Info struct {
	Scope    string    `json:"scope"`
	Tag      string    `json:"tag"`
	Written  time.Time `json:"written"`
	Index    int       `json:"indexSize"` // bytes
	Segments int       `json:"segments"`
	Records  int       `json:"records"`
	Layers   int       `json:"layers"`
	Bytes    int64     `json:"size"` // of the layers
}

func (x *index) info(tag string, size int) Info {
	n := x.totals()
	return Info{
		Scope: x.scope, Tag: tag, Written: x.written, Index: size,
		Segments: len(x.segments), Records: n.Records, Layers: n.Layers, Bytes: n.Bytes,
	}
}

// maxLooked is how many tags are looked at that do not begin with tagPrefix.
const maxLooked = 100

// List lists the scopes of a place, by name.
func List(ctx context.Context, p *Place) ([]Info, error) {
	if p.Tags == nil {
		return nil, errors.New("cannot be listed: name a scope, and inspect that")
	}
	tags, err := p.Tags.Tags(ctx)
	if err != nil {
		return nil, err
	}
	looked := 0
	tags = slices.DeleteFunc(tags, func(tag string) bool {
		if strings.HasPrefix(tag, tagPrefix) {
			name := strings.TrimPrefix(tag, tagPrefix)
			return strings.Contains(name, listedSuffix) || strings.Contains(name, laneSuffix)
		}
		looked++
		return looked > maxLooked
	})
	found := make([]*Info, len(tags))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, tag := range tags {
		g.Go(func() error {
			raw, err := readTag(ctx, p, tag)
			if err != nil {
				return nil //nolint:nilerr // something else, or gone since
			}
			if x, err := parseIndex(raw); err == nil {
				s := &shelf{scope: &Scope{Place: p, Name: x.scope}, tag: tag, index: x}
				_ = readLanes(ctx, s) // what cannot be read is not counted
				found[i] = new(x.info(tag, len(raw)))
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	scopes := map[string]string{} // by tag
	for _, i := range found {
		if i != nil {
			scopes[i.Tag] = i.Scope
		}
	}
	var all []Info
	for _, i := range found {
		if i != nil && !isPart(i, scopes) {
			all = append(all, *i)
		}
	}
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Scope, b.Scope) })
	return all, nil
}

// isPart reports whether a tag is a lane or a later index of another tag's scope.
func isPart(i *Info, scopes map[string]string) bool {
	return slices.ContainsFunc([]string{laneSuffix, listedSuffix}, func(suffix string) bool {
		at := strings.LastIndex(i.Tag, suffix)
		if at < 0 {
			return false
		}
		scope, ok := scopes[i.Tag[:at]]
		return ok && scope == i.Scope
	})
}

// Records reads all records of a scope, sorted by key. Beside an error that only a part was read for, it returns that part.
func (c *Cache) Records(ctx context.Context, scope *Scope) (Info, []Record, error) {
	s := &shelf{scope: scope}
	if err := c.reader.readIndex(ctx, s); err != nil || s.index == nil {
		return Info{}, nil, err
	}
	err := c.reader.readTables(ctx, s, maxUnpacked)
	if err == nil && len(s.tables) < len(s.index.segments) {
		err = fmt.Errorf("%d of %d segments are left out: %w", len(s.index.segments)-len(s.tables), len(s.index.segments), errTooMuch)
	}
	var lists [][]Record
	for _, t := range s.tables {
		lists = append(lists, t.records)
	}
	raw, _, encodeErr := s.index.encode()
	return s.index.info(s.tag, len(raw)), merge(lists...), errors.Join(err, encodeErr)
}
