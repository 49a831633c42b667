package forge

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/event/builds"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/source"
)

// WhyOptions name a step of an earlier build.
type WhyOptions struct {
	Step    string   // its number, a stage (its last step), or [FILE]:LINE
	Names   []string // that the build gave its image; none is any
	Context string   // of the build; "" is any
	Target  string   // "" is any
}

// A StepReport says what an earlier build did with a step, and why.
type StepReport struct {
	Build    string        `json:"build"` // its ID
	Step     *event.Step   `json:"step"`
	State    event.Kind    `json:"state"`              // Cached, Done, Failed, Canceled; Started if it has no end, Planned if it was not reached
	Duration time.Duration `json:"duration,omitempty"` // in nanoseconds; of Cached what it took when it was done
	Made     time.Time     `json:"made,omitzero"`      // of Cached: when the answer was made
	Place    string        `json:"place,omitempty"`    // of Cached: the cache that answered; "" is this machine's
	Why      *event.Why    `json:"why,omitempty"`      // of a step that was done

	key string
}

// Why says of steps of the last build that the options name why they were done, or what answered them. It does nothing else.
func (h *Home) Why(ctx context.Context, o WhyOptions) ([]*StepReport, error) {
	r, err := h.findBuild(o)
	if err != nil {
		return nil, err
	}
	var planned []event.Event
	reports := map[int]*StepReport{} // by Step.Number
	for e, err := range r.Events() {
		if err != nil {
			return nil, err
		}
		if e.Kind == event.Planned {
			planned = append(planned, e)
		}
		if e.Step != nil {
			if reports[e.Step.Number] == nil {
				reports[e.Step.Number] = &StepReport{Build: r.ID}
			}
			reports[e.Step.Number].apply(e)
		}
	}
	found, _ := stepsNamed(planned, o.Step)
	if len(found) == 0 {
		return nil, fmt.Errorf("--why %s: build %s had no such step; forge builds logs %[2]s lists them", o.Step, r.ID)
	}
	var list []*StepReport
	for _, s := range found {
		report := reports[s.Number]
		if err := h.explain(ctx, report, r.Time, reports); err != nil {
			return nil, err
		}
		list = append(list, report)
	}
	return list, nil
}

// apply takes an event of the step in.
func (s *StepReport) apply(e event.Event) {
	s.Step = e.Step
	switch e.Kind {
	case event.Planned, event.Started, event.Cached, event.Done, event.Failed, event.Canceled:
		s.State, s.Duration = e.Kind, e.Duration
	}
	if e.Key != "" {
		s.key = e.Key
	}
	if e.Place != "" {
		s.Place = e.Place
	}
	if e.Why != nil {
		s.Why = e.Why
	}
}

// findBuild finds the last build that the options name.
func (h *Home) findBuild(o WhyOptions) (builds.Record, error) {
	list, err := h.Builds().List()
	if err != nil {
		return builds.Record{}, err
	}
	wanted := references(o.Names)
	for _, r := range list {
		b := r.Begin
		switch {
		case b == nil, o.Target != "" && b.Target != o.Target:
		case len(wanted) > 0 && !slices.ContainsFunc(references(b.Names), func(n string) bool { return slices.Contains(wanted, n) }):
		case o.Context != "" && absolute("", o.Context) != absolute(b.Dir, b.Context):
		default:
			return r, nil
		}
	}
	asked := strings.Join(slices.Concat(o.Names, []string{o.Target, o.Context}), " ")
	return builds.Record{}, fmt.Errorf("--why %s: of %s %w; see forge builds", o.Step, cmp.Or(strings.Join(strings.Fields(asked), " "), "this store"), builds.ErrNotKept)
}

// references are names in full.
func references(names []string) []string {
	var full []string
	for _, name := range names {
		if ref, err := image.ParseReference(name); err == nil {
			full = append(full, ref.String())
		}
	}
	return full
}

// absolute is a context that was named in a directory, as any other names it.
func absolute(dir, context string) string {
	if context == "-" || source.IsRemote(context) {
		return web.Redact(context) // as it is kept
	}
	if filepath.IsAbs(context) || dir != "" {
		if filepath.IsAbs(context) {
			dir = ""
		}
		return filepath.Join(dir, context)
	}
	abs, err := filepath.Abs(context)
	if err != nil {
		return context
	}
	return abs
}

// explain finds out what a report of a build that began at a time does not say yet: the cache has kept what the step depended on.
func (h *Home) explain(ctx context.Context, s *StepReport, began time.Time, all map[int]*StepReport) error {
	key, err := cache.ParseKey(s.key)
	if err != nil {
		return nil //nolint:nilerr // it has none: it was not reached, or is a base or an output
	}
	now, ok, err := h.Cache.Get(ctx, key)
	if err != nil {
		return err
	}
	if s.State == event.Cached {
		s.Made = now.Created
		return nil
	}
	if !ok || s.Why != nil {
		return nil
	}
	before, found, err := h.Cache.NearestBefore(now, began)
	if err != nil {
		return err
	}
	if !found {
		s.Why = &event.Why{Reason: event.Unknown}
		return nil
	}
	why := executor.Compare(before, now)
	executor.NameMounted(ctx, &why, h.filesMounted)
	if s.Step.Kind == event.Copy {
		if files, more, err := h.changedFiles(ctx, before.Layer, now.Layer); err == nil && len(files) > 0 { // else a layer is gone
			why.Changes = append(slices.DeleteFunc(why.Changes, func(c event.Change) bool { return c.Field == "file" }), files...)
			why.More = more
		}
	}
	for i := range why.Changes {
		if c := &why.Changes[i]; c.Field == "below" {
			c.Name = doneBelow(s.Step, all)
		}
	}
	s.Why = &why
	return nil
}

// doneBelow is the nearest step that a step stands on and that was not answered from the cache either.
func doneBelow(s *event.Step, all map[int]*StepReport) string {
	for len(s.Needs) > 0 {
		on := all[s.Needs[0]]
		if on == nil || on.Step.Kind == event.Base {
			break
		}
		if on.State == event.Done {
			return on.Step.Title()
		}
		s = on.Step
	}
	return ""
}
