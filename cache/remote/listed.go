package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxListed is how many indexes of a registry with immutable tags are read: the newest.
const maxListed = 3

// readListed adds what later indexes have, where a tag cannot be given to another index.
func (r *reader) readListed(ctx context.Context, s *shelf) error {
	if !s.index.listed || s.scope.Place.Tags == nil {
		return nil
	}
	tags, err := s.scope.Place.Tags.Tags(ctx)
	if err != nil {
		return err
	}
	tags = slices.DeleteFunc(tags, func(t string) bool { return !strings.HasPrefix(t, s.tag+listedSuffix) })
	slices.Sort(tags)
	slices.Reverse(tags)
	if len(tags) > 0 {
		s.index.newest = tags[0]
	}
	var errs []error
	for _, tag := range tags[:min(len(tags), maxListed)] {
		raw, err := readTag(ctx, s.scope.Place, tag)
		if err == nil {
			var x *index
			if x, err = parseIndex(raw); err == nil && x.scope == s.scope.Name {
				s.index.add(x.segments)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// listedSuffix is between a tag and the time of a later index.
const listedSuffix = "-t"

// listedTag is the tag of a later index. Tags sort as their times do; the time is after that of the newest tag that was seen, whatever
// the clock of this machine says. newest is "" if none was seen.
func listedTag(tag string, now time.Time, newest string) string {
	at := now.UnixMilli()
	var last int64
	if n, _ := fmt.Sscanf(strings.TrimPrefix(newest, tag+listedSuffix), "%011x", &last); n == 1 && at <= last {
		at = last + 1
	}
	return fmt.Sprintf("%s%s%011x", tag, listedSuffix, at)
}

// add appends segments that the index has not, up to what an index may have.
func (x *index) add(segments []segment) {
	for _, s := range segments {
		if len(x.segments) < maxSegments && !x.has(s.d.Digest) {
			x.segments = append(x.segments, s)
		}
	}
}
