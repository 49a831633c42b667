package executor

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// maxNames is how many changed files an explanation names.
const maxNames = 10

// An explanation says why a step is not reused, before it is done and after. Nil says nothing.
type explanation struct {
	build  *build
	step   *planner.Step
	before cache.Entry // the nearest earlier answer to this step's question
	found  bool
}

// explain says in which fields the step's key differs from the nearest that was asked before.
func (b *build) explain(ctx context.Context, s *planner.Step, h *cache.Hash) *explanation {
	if !b.options.Explain {
		return nil
	}
	w := &explanation{build: b, step: s}
	w.before, w.found = b.nearest(ctx, s.Name, h.Fields())
	if b.options.NoCache || s.NoCache {
		w.say("the cache was told not to answer")
		return w
	}
	switch {
	case !w.found:
		w.say("nothing like it was done before")
	default:
		differences := cache.Diff(w.before.Fields, h.Fields())
		for _, d := range differences {
			w.say(d)
		}
		if len(differences) == 0 {
			w.say("it was done before, but its layer is gone")
		}
	}
	for _, reason := range b.options.Cache.Absent(h.Key(), s.Name) {
		w.say(reason)
	}
	return w
}

// answered reports that a step need not be done, and which cache says so if it is not this machine's.
func (b *build) answered(s *planner.Step, e cache.Entry) {
	if b.options.Explain && e.Place != "" {
		b.events.send(s, event.Event{Kind: event.Explain, Text: "answered by cache " + e.Place})
	}
	b.events.send(s, event.Event{Kind: event.Cached, Duration: e.Duration})
}

// audit does a step that the cache answers with known, and compares. Files that differ in more than their times are told, and then what was
// made here is believed: the command gives something else each time, or somebody has written an answer that it never gave.
func (b *build) audit(ctx context.Context, s *planner.Step, job Job, h *cache.Hash, known cache.Entry) (cache.Entry, bool, error) {
	if err := b.prepare(ctx, s, job); err != nil {
		return known, false, err
	}
	b.nodes[s.Index].began = time.Now()
	b.events.send(s, event.Event{Kind: event.Started})
	made, err := b.do(ctx, s, job)
	if err != nil {
		return known, false, err
	}
	var names []string
	if known.Layer.DiffID != made.Layer.DiffID && b.options.Compare != nil {
		names, err = b.options.Compare(ctx, known.Layer, made.Layer)
	}
	from := cmp.Or(known.Place, "of this machine")
	switch {
	case ctx.Err() != nil:
		return known, false, ctx.Err()
	case err != nil:
		b.events.send(s, event.Event{Kind: event.Warning, Text: fmt.Sprintf("cache %s: its answer could not be compared: %v", from, err)})
	case len(names) > 0:
		b.events.send(s, event.Event{Kind: event.Warning, Text: fmt.Sprintf(
			"cache %s: its answer is not what the step makes now: %s", from, someOf(names))})
	default: // what stands on it need not be done again
		b.events.send(s, event.Event{Kind: event.Done, Duration: made.Duration})
		return known, true, nil
	}
	made.Name, made.Fields = s.Name, h.Fields()
	b.publisher.add(h.Key(), made)
	b.events.send(s, event.Event{Kind: event.Done, Duration: made.Duration})
	return made, false, nil
}

// someOf lists the first of many names.
func someOf(names []string) string {
	text := strings.Join(names[:min(len(names), maxNames)], ", ")
	if more := len(names) - maxNames; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// nearest asks the cache for the nearest earlier answer.
func (b *build) nearest(ctx context.Context, name string, fields []cache.Field) (cache.Entry, bool) {
	e, ok, err := b.options.Cache.Nearest(ctx, name, fields)
	if err != nil {
		b.cacheFails(err)
	}
	return e, ok
}

func (w *explanation) say(sentence string) {
	w.build.events.send(w.step, event.Event{Kind: event.Explain, Text: sentence})
}

// files says which files a copy changed against the earlier layer, if that is still here.
func (w *explanation) files(ctx context.Context, job Job, layer image.Layer) {
	if w == nil || !w.found || w.before.Layer.DiffID == "" {
		return
	}
	if w.before.Layer.DiffID == layer.DiffID {
		w.say("its layer came out the same as before")
		return
	}
	compare := w.build.options.Compare
	if _, copies := job.Op.(*planner.Copy); compare == nil || !copies {
		return
	}
	names, err := compare(ctx, w.before.Layer, layer)
	if err != nil || len(names) == 0 {
		return // the earlier layer is gone, or differs only in what is not a file
	}
	w.say("changed: " + someOf(names))
}
