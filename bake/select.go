package bake

import (
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// A Selection is what is to be built: targets by name, with those that they are made from, and the groups that name them.
type Selection struct {
	Groups  map[string]*Group  `json:"group,omitempty"`
	Targets map[string]*Target `json:"target"`
}

// Select finds targets by their names, by those of groups, or by patterns, and applies overrides (--set). No name is "default".
func (f *File) Select(names, overrides []string) (*Selection, error) {
	if len(names) == 0 {
		names = []string{"default"}
	}
	var asked []string
	for _, name := range names {
		found, err := f.match(strings.ReplaceAll(name, ".", "_"))
		if err != nil {
			return nil, err
		}
		asked = append(asked, found...)
	}
	asked = unique(asked)
	set, err := f.overrides(overrides)
	if err != nil {
		return nil, err
	}
	f.copied = 0
	s := &Selection{Groups: map[string]*Group{}, Targets: map[string]*Target{}}
	for _, name := range asked {
		targets, groups := f.expand(name)
		for _, t := range targets {
			if s.Targets[t], err = f.resolve(t, set); err != nil {
				return nil, err
			}
		}
		for _, g := range groups {
			if found := f.group(g); found != nil {
				same := *found
				s.Groups[g] = &same
			}
		}
	}
	all := s.Groups["default"]
	for _, name := range asked {
		if all != nil && name == "default" {
			continue
		}
		if all == nil {
			all = &Group{Name: "default"}
			s.Groups["default"] = all
		}
		all.Targets = append(slices.Clip(all.Targets), name)
	}
	if all != nil {
		all.Targets = slices.Clone(unique(all.Targets))
		slices.Sort(all.Targets)
	}
	linked := map[string]bool{}
	for _, name := range sorted(s.Targets) {
		if err := f.link(s, name, set, nil, linked); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (f *File) group(name string) *Group {
	for _, g := range f.Groups {
		if g.Name == name {
			return g
		}
	}
	return nil
}

func (f *File) target(name string) *Target {
	for _, t := range f.Targets {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// match finds groups and targets by a pattern.
func (f *File) match(pattern string) ([]string, error) {
	if !strings.ContainsAny(pattern, "*?[]") {
		return []string{pattern}, nil
	}
	var names []string
	for _, g := range f.Groups {
		if ok, err := path.Match(pattern, g.Name); ok && err == nil {
			names = append(names, g.Name)
		}
	}
	for _, t := range f.Targets {
		if ok, err := path.Match(pattern, t.Name); ok && err == nil {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("could not find any target matching %q", pattern)
	}
	return names, nil
}

// expand is which targets a name means, and which groups it goes through, in the order in which they are met.
func (f *File) expand(name string) (targets, groups []string) {
	known := make(map[string]*Group, len(f.Groups))
	for _, g := range f.Groups {
		known[g.Name] = g
	}
	full := map[string]bool{} // groups that were met → whether they mean targets; of one that is still being expanded that is not known
	var visit func(name string) bool
	visit = func(name string) bool {
		g := known[name]
		if g == nil {
			targets = append(targets, name)
			return true
		}
		if has, met := full[name]; met {
			return has
		}
		full[name] = false
		groups = append(groups, name)
		for _, t := range g.Targets {
			if !visit(t) { // a target may have the name of a group that it is in
				targets = append(targets, t)
			}
		}
		full[name] = len(g.Targets) > 0
		return full[name]
	}
	visit(name)
	return unique(targets), groups
}

// resolve is a target with all that it inherits, and what was overridden.
func (f *File) resolve(name string, set map[string]map[string]override) (*Target, error) {
	t, err := f.inherited(name, set, map[string]*Target{})
	if err != nil {
		return nil, err
	}
	delete(t.fields, "inherits")
	context := t.Text("context")
	if dir, ok := strings.CutPrefix(context, "cwd://"); ok {
		context = dir
	}
	if !strings.Contains(context, "://") && !strings.HasPrefix(context, "git@") {
		t.fields["context"] = path.Clean(context)
	}
	if t.Text("dockerfile") == "" {
		t.fields["dockerfile"] = "Dockerfile"
	}
	return t, nil
}

// maxCopied is how many values all targets may have of those that they inherit from and are made from: each in a chain of thousands has all
// that those before it have.
const maxCopied = 4 << 20

// copies counts values that a target has of others.
func (f *File) copies(n int) error {
	if f.copied += n; f.copied > maxCopied {
		return fmt.Errorf("targets have more than %d values of others", maxCopied)
	}
	return nil
}

// inherited is a target with all that it inherits. known has the targets that were met before: many may inherit from one. One that
// inherits from itself adds nothing to itself, as in buildx.
func (f *File) inherited(name string, set map[string]map[string]override, known map[string]*Target) (*Target, error) {
	if t := known[name]; t != nil {
		return t, nil
	}
	own := f.target(name)
	if own == nil {
		return nil, fmt.Errorf("failed to find target %s", name)
	}
	known[name] = newTarget(name)
	out := newTarget(name)
	for _, base := range own.List("inherits") {
		t, err := f.inherited(base, set, known)
		if err == nil {
			err = f.copies(t.size())
		}
		if err != nil {
			return nil, err
		}
		out.merge(t)
	}
	out.merge(own)
	if err := out.override(set[name]); err != nil {
		return nil, fmt.Errorf("target %s: %w", name, err)
	}
	out.normalize()
	known[name] = out
	return out, nil
}

// link adds the targets that a target's contexts name, unless done has it already. One that nobody has asked for has no output of its own.
func (f *File) link(s *Selection, name string, set map[string]map[string]override, path []string, done map[string]bool) error {
	if done[name] {
		return nil
	}
	t := s.Targets[name]
	path = append(path, name)
	for _, context := range sorted(t.Texts("contexts")) {
		from, ok := strings.CutPrefix(t.Texts("contexts")[context], "target:")
		if !ok {
			continue
		}
		if from == name {
			return fmt.Errorf("target %s cannot link to itself", name)
		}
		if slices.Contains(path, from) {
			return fmt.Errorf("infinite loop from %s to %s", name, from)
		}
		if s.Targets[from] == nil {
			linked, err := f.resolve(from, set)
			if err != nil {
				return err
			}
			linked.fields["output"] = []Entry{{"type": "cacheonly"}}
			s.Targets[from] = linked
		}
		if err := f.link(s, from, set, path, done); err != nil {
			return err
		}
		below := s.Targets[from]
		for _, e := range below.List("entitlements") {
			if !slices.Contains(t.List("entitlements"), e) {
				if err := f.copies(1); err != nil {
					return err
				}
				t.fields["entitlements"] = append(slices.Clip(t.List("entitlements")), e)
			}
		}
		if own, has := t.List("platforms"), below.List("platforms"); len(own) > 1 && len(has) > 1 {
			for _, p := range own {
				if !slices.Contains(has, p) {
					return fmt.Errorf("target %s can't be used by %s because its platforms %v are not a subset of %v", from, name, own, has)
				}
			}
		}
	}
	done[name] = true
	return nil
}

// Print writes the selection as JSON, which bake can read again.
func (s *Selection) Print(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(s)
}
