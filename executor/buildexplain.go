package executor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// An explanation says why a step is not answered from the cache.
type explanation struct {
	event.Why
	before cache.Entry // the nearest earlier answer to this step's question; zero if there is none
}

// explain finds in what the step's key differs from the nearest that was asked before.
func (b *build) explain(ctx context.Context, s *planner.Step, h *cache.Hash) *explanation {
	before, found, err := b.options.Cache.Nearest(ctx, s.Name, h.Fields())
	if err != nil {
		b.cacheFails(err)
	}
	w := &explanation{}
	if found && before.Created.Before(b.began) { // what this build has made itself is no earlier answer
		now := cache.Entry{Fields: h.Fields(), Base: baseOf(s)}
		w.Why, w.before = Compare(before, now), before
		b.nameBelow(s, w.Changes)
		NameMounted(ctx, &w.Why, b.options.Mounted)
	} else {
		w.Reason = event.Unknown
	}
	if b.options.NoCache || s.NoCache {
		w.Why = event.Why{Reason: event.Asked}
		return w
	}
	w.Absent = b.options.Cache.Absent(h.Key(), s.Name)
	return w
}

// answered reports that a step need not be done, and which cache says so if it is not this machine's.
func (b *build) answered(s *planner.Step, key cache.Key, e cache.Entry) {
	if b.options.Explain && e.Place != "" {
		b.events.send(s, event.Event{Kind: event.Explain, Text: "answered by cache " + e.Place})
	}
	b.events.send(s, event.Event{Kind: event.Cached, Duration: e.Duration, Bytes: e.Layer.Blob.Size, Detail: event.Detail{Key: key.String(), Place: e.Place}})
}

// sayPlace says where a step was done, and why there, if people want to know.
func (b *build) sayPlace(s *planner.Step, r Result) {
	if !b.options.Explain || r.Place == "" && r.Why == "" {
		return
	}
	text := "done " + cmp.Or(r.Place, "on this machine")
	if r.Known {
		text = "answered by the action cache of " + r.Place
	}
	if r.Why != "" {
		text += ": " + r.Why
	}
	b.events.send(s, event.Event{Kind: event.Explain, Text: text})
}

// audit does a step that the cache answers with known, and compares. Files that differ in more than their times are told, and then what was
// made here is believed: the command gives something else each time, or somebody has written an answer that it never gave.
func (b *build) audit(ctx context.Context, s *planner.Step, job Job, h *cache.Hash, known cache.Entry) (cache.Entry, bool, error) {
	if err := b.prepare(ctx, s, job); err != nil {
		return known, false, err
	}
	b.nodes[s.Index].began = time.Now()
	b.events.send(s, event.Event{Kind: event.Started, Detail: event.Detail{Key: h.Key().String(), Why: &event.Why{Reason: event.Audited}}})
	made, err := b.do(ctx, s, job, h)
	if err != nil {
		return known, false, err
	}
	var changes []event.Change
	more := 0
	if known.Layer.DiffID != made.Layer.DiffID && b.options.Compare != nil {
		changes, more, err = b.options.Compare(ctx, known.Layer, made.Layer)
	}
	from := cmp.Or(known.Place, "of this machine")
	switch {
	case ctx.Err() != nil:
		return known, false, ctx.Err()
	case err != nil:
		b.events.send(s, event.Event{Kind: event.Warning, Text: fmt.Sprintf("cache %s: its answer could not be compared: %v", from, err)})
	case len(changes) > 0:
		b.events.send(s, event.Event{Kind: event.Warning, Text: fmt.Sprintf(
			"cache %s: its answer is not what the step makes now: %s", from, names(changes, more))})
	default: // what stands on it need not be done again
		return known, true, nil
	}
	made.Name, made.Fields, made.Base = s.Name, h.Fields(), baseOf(s)
	b.publisher.add(h.Key(), made)
	return made, false, nil
}

// names lists changed files.
func names(changes []event.Change, more int) string {
	var list []string
	for _, c := range changes {
		list = append(list, c.Name)
	}
	text := strings.Join(list, ", ")
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Compare says why an answer that was remembered before is none to the question that now answers.
func Compare(before, now cache.Entry) event.Why {
	w := event.Why{Reason: event.Changed, Before: before.Created, Changes: cache.Diff(before.Fields, now.Fields)}
	if len(w.Changes) == 0 {
		w.Reason = event.Gone
	}
	i := slices.IndexFunc(w.Changes, func(c event.Change) bool { return c.Field == "below" })
	if i >= 0 && before.Base != now.Base && before.Base.Digest != "" && now.Base.Digest != "" { // what people know it as
		c := &w.Changes[i]
		c.Field, c.Name, c.Old, c.New = "base", now.Base.Name, before.Base.Digest, now.Base.Digest
	}
	return w
}

// NameMounted puts the files that have changed in a mount in the place of the digest of the whole, where they are known.
func NameMounted(ctx context.Context, w *event.Why, find filesOf) {
	if find == nil {
		return
	}
	changes := make([]event.Change, 0, len(w.Changes))
	for _, c := range w.Changes {
		if c.Field == "file" && c.How == event.Replaced {
			if files, more, err := find(ctx, c); err == nil && len(files) > 0 { // else the digests say all that is known
				changes = append(changes, files...)
				w.More += more
				continue
			}
		}
		changes = append(changes, c)
	}
	w.Changes = changes
}

// nameBelow says which step has changed what a step stands on.
func (b *build) nameBelow(s *planner.Step, changes []event.Change) {
	for i := range changes {
		for on := s.On; changes[i].Field == "below" && changes[i].Name == "" && on != nil; on = on.On {
			if _, base := on.Op.(*planner.Base); !base && !b.nodes[on.Index].answered {
				changes[i].Name = b.events.steps[on.Index].Title()
			}
		}
	}
}

// baseOf is the image that a step's stage begins with.
func baseOf(s *planner.Step) cache.Base {
	for ; s != nil; s = s.On {
		if op, ok := s.Op.(*planner.Base); ok {
			return cache.Base{Name: op.Ref, Digest: op.Image.Descriptor.Digest.String()}
		}
	}
	return cache.Base{}
}

// say sends the explanation, if people want it.
func (w *explanation) say(b *build, s *planner.Step) {
	if b.options.Explain {
		why := w.Why
		b.events.send(s, event.Event{Kind: event.Explain, Text: strings.Join(why.Lines(), "; "), Detail: event.Detail{Why: &why}})
	}
}

// files says which files a copy changed against the earlier layer, if that is still here, in the place of what it copies.
func (w *explanation) files(ctx context.Context, b *build, layer image.Layer) {
	if b.options.Compare == nil || w.before.Layer.DiffID == "" {
		return
	}
	files, more, err := b.options.Compare(ctx, w.before.Layer, layer)
	if err != nil || len(files) == 0 {
		return // the earlier layer is gone, or differs only in what is not a file
	}
	w.Changes = append(slices.DeleteFunc(w.Changes, func(c event.Change) bool { return c.Field == "file" }), files...)
	w.More = more
}
