package executor

import (
	"context"
	"fmt"
	"strings"

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
	switch {
	case b.options.NoCache || s.NoCache:
		w.say("the cache was told not to answer")
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
	return w
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
	text := strings.Join(names[:min(len(names), maxNames)], ", ")
	if more := len(names) - maxNames; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	w.say("changed: " + text)
}
