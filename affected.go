package forge

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// A Change says of a target whether it has changed.
type Change struct {
	Target string // its name
	Why    string // what has changed, for people; "" if nothing has
}

// Affected says of targets which of them read something that differs between a git revision and the working tree: a file of their contexts
// that a step selects, the build file, the ignore file, forge.lock, a file that defines the target (Definitions), and all that of the targets that
// they are made from. A target whose context is no directory of this machine counts as changed, since git cannot say. It plans, and does
// nothing. The answers have the order of the targets.
func (h *Home) Affected(ctx context.Context, targets []Target, revision string) (changes []Change, err error) {
	if err := checkTargets(targets); err != nil {
		return nil, err
	}
	b := h.newBuilding(targets)
	var open closers.Stack
	defer func() { err = errors.Join(err, open.Close()) }()
	for _, t := range b.targets {
		t.Events, t.Outputs = nil, []Output{{Type: "cacheonly"}}
		t.Cache, t.CacheOptions.From, t.To = "none", nil, nil
		if err := t.prepare(ctx); err != nil {
			return nil, b.named(t, err)
		}
	}
	if err := b.open(ctx, &open); err != nil {
		return nil, err
	}
	if err := b.plan(ctx); err != nil {
		return nil, err
	}
	inputs, err := h.inputs(b)
	if err != nil {
		return nil, err
	}
	open.Push(inputs.Layers.Close)
	since := source.NewRevision(revision)
	dirs := b.dirs()
	own := map[string]string{}
	for _, t := range b.targets {
		if own[t.Name], err = t.whyFiles(ctx, since); err == nil && own[t.Name] == "" {
			own[t.Name], err = t.whySteps(ctx, since, inputs, dirs)
		}
		if err != nil {
			return nil, b.named(t, err)
		}
	}
	by, known := b.byName(), map[string]string{}
	for _, t := range b.targets {
		changes = append(changes, Change{t.Name, t.whyMade(by, own, known)})
	}
	return changes, nil
}

// whyMade is why a target has changed, itself or what it is made from. known has what was found out before.
func (t *making) whyMade(by map[string]*making, own, known map[string]string) string {
	if why, ok := known[t.Name]; ok {
		return why
	}
	why := own[t.Name]
	for _, name := range slices.Sorted(maps.Keys(t.From)) {
		from := t.From[name]
		if why != "" {
			break
		}
		if why = by[from].whyMade(by, own, known); why != "" {
			why = "is made from " + from + ", of which " + why
		}
	}
	known[t.Name] = why
	return why
}

// dirs are the directories of the build's contexts, by the names that the plan has for them.
func (b *building) dirs() map[string]string {
	dirs := map[string]string{}
	for _, t := range b.targets {
		for name, dir := range t.src.Dirs() {
			dirs[b.shared.Name(t.src.Trees[name])] = dir
		}
	}
	return dirs
}

// whyFiles looks at the files that a target is described by.
func (t *making) whyFiles(ctx context.Context, r *source.Revision) (string, error) {
	if source.IsRemote(t.Context) {
		return "its context is no directory of this machine", nil
	}
	for _, file := range append([]string{t.src.BuildFile(), t.src.IgnoreFile(), pinsPath(t.src.Source)}, t.Definitions...) {
		if file == "" {
			continue
		}
		abs, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		changed, err := r.Changed(ctx, filepath.Dir(abs))
		if err != nil {
			return "", fmt.Errorf("--affected %w", err)
		}
		names := []string{abs}
		if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil { // the file itself may be gone
			names = append(names, filepath.Join(dir, filepath.Base(abs)))
		}
		if resolved, err := filepath.EvalSymlinks(abs); err == nil {
			names = append(names, resolved)
		}
		if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(changed, name) }) {
			return file + " has changed", nil
		}
	}
	return "", nil
}

// whySteps looks at the files that the steps of a target read.
func (t *making) whySteps(ctx context.Context, r *source.Revision, inputs *source.Resolver, dirs map[string]string) (string, error) {
	for _, s := range t.graphs[0].Steps {
		if !slices.Contains(s.For, t.Name) {
			continue
		}
		for n, context := range contextsOf(s.Op) {
			dir, ok := dirs[context]
			if !ok {
				return "a context of " + s.Name + " is no directory of this machine", nil
			}
			changed, err := r.Changed(ctx, dir)
			if err != nil {
				return "", fmt.Errorf("--affected %w", err)
			}
			if resolved, err := filepath.EvalSymlinks(dir); err == nil {
				dir = resolved
			}
			var inside []string
			for _, file := range changed {
				if rel, err := filepath.Rel(dir, file); err == nil && filepath.IsLocal(rel) {
					inside = append(inside, filepath.ToSlash(rel))
				}
			}
			file, err := inputs.Touched(ctx, s.Op, n, inside)
			if err != nil {
				return "", fmt.Errorf("%s: %w", s.Name, err)
			}
			if file != "" {
				return file + " has changed, which " + shortName(s.Name) + " reads", nil
			}
		}
	}
	return "", nil
}

// shortName is a step's name in one line that is not long.
func shortName(name string) string {
	const most = 60
	name = strings.Join(strings.Fields(name), " ")
	if r := []rune(name); len(r) > most {
		return string(r[:most]) + "…"
	}
	return name
}

// contextsOf are the inputs of an operation that are read from contexts, by their numbers, each with the context.
func contextsOf(op planner.Op) iter.Seq2[int, string] {
	return func(yield func(n int, context string) bool) {
		switch op := op.(type) {
		case *planner.Copy:
			for n, s := range op.Sources {
				if s.Path != "" && op.From.Read < 0 && !yield(n, op.From.Context) {
					return
				}
			}
		case *planner.Run:
			for n, m := range op.Mounts {
				if m.From != nil && m.From.Read < 0 && !yield(n, m.From.Context) {
					return
				}
			}
		case *planner.Base, *planner.Mkdir:
		}
	}
}
