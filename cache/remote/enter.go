package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/failpoint"
)

// ErrBusy means that others write a scope all the time, and that what was to be kept may not have stayed.
var ErrBusy = errors.New("others write it all the time")

// enter puts segments into the index, before what is in it, or into a lane beside it if others write the index now. seen is the index as
// it was read last; nil if there was none. Who prunes has no segments, and puts together what is there.
func (w *writer) enter(ctx context.Context, seen *index, segments []segment) (*index, error) {
	var wrote *written
	for range maxTries {
		start := time.Now()
		w.crowd = false
		now, err := w.current(ctx, w.tag, seen)
		if err != nil {
			return nil, err
		}
		switch {
		case wrote != nil && wrote.stays(now):
			late, err := w.late(ctx, wrote)
			if err != nil {
				return nil, err
			}
			if len(late) == 0 {
				w.settle(ctx, now, wrote)
				return now, nil
			}
			segments = append(late, wrote.own...)
		case wrote != nil, now != nil && now.open && !w.closes(now):
			if err := sleep(ctx, time.Duration(w.cache.dice(int64(lanePause)))); err != nil {
				return nil, err
			}
			start = time.Now()
			if now, err = w.current(ctx, w.tag, now); err != nil {
				return nil, err
			}
			w.crowd = now != nil && wrote != nil && now.others(wrote.index) >= crowdSize
			if now != nil && now.open && w.keep == nil {
				x, err := w.enterLane(ctx, now, segments)
				if x != nil || err != nil {
					return x, err
				}
				seen = now
				continue
			}
		}
		if err := failpoint.At("remote.before-index"); err != nil {
			return nil, err
		}
		if wrote, err = w.put(ctx, now, segments); err != nil {
			return nil, err
		}
		if wrote.final {
			return wrote.index, nil
		}
		seen = wrote.index
		if err := w.pause(ctx, start, firstPause); err != nil {
			return nil, err
		}
	}
	return nil, ErrBusy
}

// pause waits until another who had read before this writer wrote has written, unless it takes that one much longer than it took here:
// since start, but at least so long.
func (w *writer) pause(ctx context.Context, start time.Time, least time.Duration) error {
	return sleep(ctx, max(least, 3*time.Since(start))+time.Duration(w.cache.dice(int64(pauseRange))))
}

// settle is called when an index is known to have stayed.
func (w *writer) settle(ctx context.Context, now *index, wrote *written) {
	if now.listed && now.digest == wrote.digest {
		now.listed = false
		if err := w.putIndex(ctx, now, w.tag); err != nil {
			now.listed = true
		}
	}
	w.remember(ctx, now)
}

// written is an index as it was written.
type written struct {
	*index
	own    []segment // that stand for the writer's
	final  bool      // nobody can replace it
	closed *index    // whose lanes it has closed; nil if it has closed none
	lanes  []segment // that it has found there
}

// stays reports whether what was written is in what a name stands for now. Of a prune that has left nothing only its index tells.
func (x *written) stays(now *index) bool {
	return now != nil && (now.digest == x.digest || len(x.own) > 0 && holds(now, x.own))
}

func holds(x *index, segments []segment) bool {
	for _, s := range segments {
		if !x.has(s.d.Digest) {
			return false
		}
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// current is the index that a tag stands for now; nil if there is none. It is not read if it is the one that was seen. What took long
// to be read is made sure of, since who writes it back replaces what others have written since.
func (w *writer) current(ctx context.Context, tag string, seen *index) (*index, error) {
	p := w.target.Place
	for again := true; ; again = false {
		start := time.Now()
		d, err := p.Write.Resolve(ctx, p.named(tag))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, nil
		case err != nil:
			return nil, err
		case seen == nil || d.Digest != seen.digest:
			if seen, err = w.read(ctx, tag, d); err != nil {
				return nil, err
			}
		}
		if !again || time.Since(start) < slowRead {
			return seen, nil
		}
	}
}

// read reads the index of a tag.
func (w *writer) read(ctx context.Context, tag string, d ocispec.Descriptor) (*index, error) {
	raw, err := image.ReadSmall(ctx, w.target.Place.Write, d)
	if err != nil {
		return nil, err
	}
	x, err := parseIndex(raw)
	if err == nil && x.scope != w.target.Name {
		err = &foreignError{fmt.Sprintf("the cache of another scope, %q", x.scope)}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tag, err)
	}
	return x, nil
}

// remember has this machine know an index without asking for it.
func (w *writer) remember(ctx context.Context, x *index) {
	if raw, _, err := x.encode(); err == nil && w.cache.o.Memory != nil {
		_ = w.cache.o.Memory.Put(ctx, w.target.memoKey(w.tag), raw) // else it is asked for
	}
}

// put writes an index of segments and of what is in now, and in the lanes if those are open. It opens lanes if several
// others write now.
func (w *writer) put(ctx context.Context, now *index, segments []segment) (*written, error) {
	x := &written{index: &index{scope: w.target.Name, written: time.Now(), plain: w.plain, open: w.crowd, segments: segments}, own: segments}
	if now != nil {
		x.plain, x.epoch, x.newest = x.plain || now.plain, now.epoch, now.newest
		x.add(now.segments)
		if now.open {
			if err := w.closeLanes(ctx, now, x); err != nil {
				return nil, err
			}
		}
	}
	if x.closed != nil || w.crowded(x.index) {
		x.own = w.compact(ctx, x.index, w.retention(), x.own)
		if err := w.catchUp(ctx, x.index, now); err != nil { // it takes a while
			return nil, err
		}
	}
	x.listed = now == nil && w.target.Place.Tags != nil // if the tag can be given only once, this stays
	err := w.putIndex(ctx, x.index, w.tag)
	if errors.Is(err, image.ErrImmutable) {
		x.listed, x.final = true, true
		err = w.putIndex(ctx, x.index, listedTag(w.tag, time.Now(), x.newest))
	}
	return x, err
}

// catchUp adds to x what others have put into the index since it was read as seen.
func (w *writer) catchUp(ctx context.Context, x, seen *index) error {
	now, err := w.current(ctx, w.tag, seen)
	if err != nil || now == nil || now == seen {
		return err
	}
	for _, s := range now.segments {
		if seen == nil || !seen.has(s.d.Digest) {
			x.add([]segment{s})
		}
	}
	return nil
}

// putIndex writes an index. Segments that the place has lost are left out.
func (w *writer) putIndex(ctx context.Context, x *index, tag string) error {
	p := w.target.Place
	for again := true; ; again = false {
		raw, d, err := x.encode()
		if err != nil {
			return err
		}
		if err = p.Write.PushManifest(ctx, p.named(tag), d, raw); err == nil {
			x.digest = d.Digest
			return nil
		}
		if !again || !errors.Is(err, image.ErrIncomplete) && !errors.Is(err, image.ErrRefused) {
			return err
		}
		var left []segment
		for _, s := range x.segments {
			if ok, err := p.Write.Exists(ctx, s.d); ok && err == nil {
				left = append(left, s)
			}
		}
		if len(left) == len(x.segments) {
			return err // it is something else that the place does not like
		}
		x.segments = left
	}
}
