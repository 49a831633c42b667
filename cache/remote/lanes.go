package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Lanes are tags beside a scope's index. A writer whose index another has replaced opens them, by a word in the index, and from then on
// writers put their segments into a lane each, chosen at random, where they seldom meet; readers read all of them. Some later writer
// closes them: it puts what they hold into the index, whose epoch is one more then. What a lane holds of an earlier epoch counts for
// nothing, so that lanes are never deleted, which many registries do not allow.
const (
	lanes      = 32
	laneSuffix = "-l"
	lanePause  = 2 * time.Second        // at most, before who has met others writes, so that they come one by one
	laneLook   = 500 * time.Millisecond // at least, before it is looked whether a lane has stayed
	crowdSize  = 3                      // segments of others, since this writer wrote, at which it opens lanes
	laneIdle   = 10 * time.Second       // since when an index was not written whose lanes the next writer closes
	maxInLanes = 4 * maxSegments        // segments of all lanes that are read: a place that lies is not to fill the memory
)

func laneTag(tag string, n int) string { return fmt.Sprintf("%s%s%x", tag, laneSuffix, n) }

// inLanes reads the segments that the lanes of an index hold, up to maxInLanes.
func inLanes(ctx context.Context, scope *Scope, tag string, x *index) ([]segment, error) {
	found, errs := make([]*index, lanes), make([]error, lanes)
	var g errgroup.Group
	for n := range lanes {
		g.Go(func() error {
			raw, err := readTag(ctx, scope.Place, laneTag(tag, n))
			if err == nil {
				found[n], err = parseIndex(raw)
			}
			if !errors.Is(err, fs.ErrNotExist) {
				errs[n] = err
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	var all []segment
	for _, lane := range found {
		if lane == nil || lane.scope != scope.Name || lane.epoch != x.epoch {
			continue
		}
		for _, s := range lane.segments {
			if len(all) < maxInLanes && !slices.ContainsFunc(all, func(other segment) bool { return other.d.Digest == s.d.Digest }) {
				all = append(all, s)
			}
		}
	}
	return all, errors.Join(errs...)
}

// readLanes adds what the lanes of a shelf's index hold, if they are open.
func readLanes(ctx context.Context, s *shelf) error {
	if !s.index.open {
		return nil
	}
	segments, err := inLanes(ctx, s.scope, s.tag, s.index)
	for _, seg := range segments {
		if !s.index.has(seg.d.Digest) {
			s.index.segments = append(s.index.segments, seg)
		}
	}
	return err
}

// others is how many segments have come into an index since it was another.
func (x *index) others(before *index) (n int) {
	for _, s := range x.segments {
		if !before.has(s.d.Digest) {
			n++
		}
	}
	return n
}

// closes reports whether a writer that finds lanes open is to close them: when the crowd has gone, as far as clocks can tell, or to prune.
func (w *writer) closes(now *index) bool {
	since := time.Since(now.written)
	return w.keep != nil || since > laneIdle || since < -laneIdle && w.cache.dice(crowdChance) == 0
}

// closeLanes puts what the lanes of an index hold into x, which is to replace it.
func (w *writer) closeLanes(ctx context.Context, now *index, x *written) (err error) {
	if x.lanes, err = inLanes(ctx, w.target.Scope, w.tag, now); err != nil {
		return err
	}
	for _, s := range x.lanes {
		if !x.has(s.d.Digest) {
			x.segments = append(x.segments, s)
		}
	}
	x.closed, x.epoch, x.open = now, now.epoch+1, false
	return nil
}

// late are segments that came into the lanes while they were being closed. Who has written a lane looks at the index afterwards: it has
// either been closed by then, or what was written is found here.
func (w *writer) late(ctx context.Context, x *written) ([]segment, error) {
	if x.closed == nil {
		return nil, nil
	}
	found, err := inLanes(ctx, w.target.Scope, w.tag, x.closed)
	return slices.DeleteFunc(found, func(s segment) bool {
		return slices.ContainsFunc(x.lanes, func(known segment) bool { return known.d.Digest == s.d.Digest })
	}), err
}

// enterLane puts segments into one of the lanes of an index. It returns the index with them, or nil if another writer has replaced the
// lane, or closed it.
func (w *writer) enterLane(ctx context.Context, main *index, segments []segment) (*index, error) {
	start, tag := time.Now(), laneTag(w.tag, int(w.cache.dice(lanes)))
	x := &written{index: &index{scope: w.target.Name, written: time.Now(), plain: w.plain, epoch: main.epoch, segments: segments}, own: segments}
	before, err := w.current(ctx, tag, nil)
	switch foreign := (*foreignError)(nil); {
	case errors.As(err, &foreign):
		return nil, nil
	case err != nil:
		return nil, err
	case before != nil && before.epoch == main.epoch:
		if len(before.segments)+len(segments) > maxSegments {
			return nil, nil
		}
		x.add(before.segments)
	}
	if err := w.putIndex(ctx, x.index, tag); err != nil {
		return nil, err
	}
	if err := w.pause(ctx, start, laneLook); err != nil {
		return nil, err
	}
	after, err := w.current(ctx, tag, x.index)
	if err != nil || !x.stays(after) {
		return nil, err
	}
	now, err := w.current(ctx, w.tag, main)
	switch {
	case err != nil || now == nil:
		return nil, err
	case !holds(now, segments) && (!now.open || now.epoch != main.epoch):
		return nil, nil // nobody reads the lane
	}
	known := *now
	known.segments = append(slices.Clone(segments), now.segments...)
	w.remember(ctx, &known)
	return &known, nil
}
