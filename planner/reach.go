package planner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/forge-build/forge/parser"
)

// reach finds every stage that the wanted ones need, with images resolved and triggers in place, in the order of the
// file; those that no FROM names come first.
func (p *planner) reach(ctx context.Context, wanted []*stage) ([]*stage, error) {
	for {
		found, err := p.collect(wanted)
		if err != nil {
			return nil, err
		}
		if err := checkCycles(p, found); err != nil {
			return nil, err
		}
		if err := p.resolve(ctx, found); err != nil {
			return nil, err
		}
		more, err := p.expandOnBuild(found)
		if err != nil {
			return nil, err
		}
		if !more {
			return found, nil
		}
	}
}

// collect walks from the wanted stages to all they need and links each.
func (p *planner) collect(wanted []*stage) ([]*stage, error) {
	seen := map[*stage]bool{}
	var outside []*stage
	var visit func(s *stage) error
	visit = func(s *stage) error {
		if seen[s] {
			return nil
		}
		seen[s] = true
		if s.kind == external {
			outside = append(outside, s)
		}
		if err := p.link(s); err != nil {
			return err
		}
		if s.parent != nil {
			if err := visit(s.parent); err != nil {
				return err
			}
		}
		for from := range s.reads() {
			if err := visit(from); err != nil {
				return err
			}
		}
		return nil
	}
	for _, s := range wanted {
		if err := visit(s); err != nil {
			return nil, err
		}
	}
	list := outside
	for _, s := range p.stages {
		if seen[s] {
			list = append(list, s)
		}
	}
	return list, nil
}

// link makes the stage's commands and finds what they read from.
func (p *planner) link(s *stage) error {
	if s.done >= linked {
		return nil
	}
	s.done = linked
	if c := s.context; c != nil && c.Stage != "" {
		if s.parent = p.names[strings.ToLower(c.Stage)]; s.parent == nil {
			return p.fail(s.decl.Span, fmt.Errorf("context %s: there is no stage %q", c.name, c.Stage))
		}
		if s.parent == s {
			return p.fail(s.decl.Span, fmt.Errorf("context %s: stage %q stands for itself", c.name, c.Stage))
		}
	}
	if s.kind != declared {
		return nil
	}
	for _, in := range s.decl.Instructions {
		c, err := p.command(in)
		if err != nil {
			return err
		}
		s.commands = append(s.commands, c)
	}
	return nil
}

// command makes a command of an instruction and notes what it reads from.
func (p *planner) command(in parser.Instruction) (command, error) {
	c := command{Instruction: in}
	typed, err := in.Fresh()
	if err != nil {
		return c, p.fail(in.Span, err)
	}
	c.typed = typed
	switch t := typed.(type) {
	case *instructions.CopyCommand:
		if t.From == "" {
			return c, nil
		}
		from, err := p.copySource(t.From, in.Span)
		if err != nil {
			return c, p.fail(in.Span, err)
		}
		c.sources = []*stage{from}
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(t) {
			var from *stage
			if m.From != "" {
				if from = p.names[strings.ToLower(m.From)]; from == nil {
					from = p.outsideStage(m.From, in.Span)
				}
			}
			c.sources = append(c.sources, from)
		}
	}
	return c, nil
}

// checkSources looks at every COPY --from of a stage, which nobody may need.
func (p *planner) checkSources(s *stage) error {
	for _, in := range s.decl.Instructions {
		if t, ok := in.Command.(*instructions.CopyCommand); ok && t.From != "" {
			if err := p.checkSource(t.From); err != nil {
				return p.fail(in.Span, err)
			}
		}
	}
	return nil
}

// checkSource refuses variables in COPY --from.
func (p *planner) checkSource(name string) error {
	word, err := (&variables{escape: p.file.Escape}).expand(p.lex, name)
	if err == nil && word.Result != name {
		err = errors.New("variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround")
	}
	return err
}

// copySource finds what COPY --from names: a stage, the number of one, or else an image or a context.
func (p *planner) copySource(name string, at parser.Span) (*stage, error) {
	if err := p.checkSource(name); err != nil {
		return nil, err
	}
	if index, err := strconv.Atoi(name); err == nil {
		if index < 0 || index >= len(p.stages) {
			return nil, fmt.Errorf("invalid stage index %d", index)
		}
		return p.stages[index], nil
	}
	if s := p.names[strings.ToLower(name)]; s != nil {
		return s, nil
	}
	return p.outsideStage(name, at), nil
}

// outsideStage is a stage that stands for an image or a context.
func (p *planner) outsideStage(name string, at parser.Span) *stage {
	s := &stage{label: name, base: name, kind: external, state: stageState{outline: newOutline()}}
	s.decl.Span = at
	for n := at.Start; n <= at.End; n++ {
		s.decl.Location = append(s.decl.Location, bk.Range{Start: bk.Position{Line: n}, End: bk.Position{Line: n}})
	}
	if name != scratch {
		s.context = p.context(name, p.platforms.target)
	}
	return s
}

// checkCycles finds stages that copy from each other. A stage that builds on another can do so only after it and needs
// no check.
func checkCycles(p *planner, stages []*stage) error {
	done, open := map[*stage]bool{}, map[*stage]bool{}
	var visit func(s *stage, first parser.Span) (parser.Span, bool)
	visit = func(s *stage, first parser.Span) (parser.Span, bool) {
		if done[s] {
			return first, false
		}
		done[s], open[s] = true, true
		for from, at := range s.reads() {
			if first.Start != 0 {
				at = first
			}
			if open[from] {
				return at, true
			}
			if at, found := visit(from, at); found {
				return at, true
			}
		}
		delete(open, s)
		return first, false
	}
	for _, s := range stages {
		if at, found := visit(s, parser.Span{}); found {
			return p.fail(at, fmt.Errorf("circular dependency detected on stage: %s", s.label))
		}
	}
	return nil
}

// expandOnBuild puts the triggers of each stage's base before its commands. It reports whether they need stages not seen yet.
func (p *planner) expandOnBuild(stages []*stage) (more bool, err error) {
	for _, s := range stages {
		if s.done >= expanded {
			continue
		}
		s.done = expanded
		if s.kind != declared {
			continue
		}
		var triggers []string
		if s.image != nil {
			triggers = slices.Clone(s.image.Config.Config.OnBuild)
		}
		if s.context != nil && s.context.Graph != nil {
			triggers = slices.Clone(s.context.Graph.Config.Config.OnBuild)
		}
		if s.parent != nil {
			for _, c := range s.parent.commands {
				if t, ok := c.typed.(*instructions.OnbuildCommand); ok {
					triggers = append(triggers, t.Expression)
				}
			}
		}
		commands := make([]command, 0, len(triggers)+len(s.commands))
		for _, text := range triggers {
			in, err := p.file.ParseTrigger(text, s.decl.Span)
			if err != nil {
				return false, err
			}
			c, err := p.command(in)
			if err != nil {
				return false, err
			}
			more = more || len(c.sources) > 0
			commands = append(commands, c)
		}
		s.commands = append(commands, s.commands...)
	}
	return more, nil
}
