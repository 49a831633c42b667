package main

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

// affectedFlag leaves out what has not changed.
type affectedFlag struct {
	Affected revisionFlag `help:"Of several targets, build those only whose files, or whose build file, have changed since a git revision; alone it is HEAD." placeholder:"REV"`
}

// A revisionFlag is a revision of git. It may stand alone, which is HEAD.
type revisionFlag string

// Decode implements kong.MapperValue.
func (f *revisionFlag) Decode(ctx *kong.DecodeContext) error {
	*f = "HEAD"
	if ctx.Scan.Peek().Type == kong.FlagValueToken {
		*f = revisionFlag(fmt.Sprint(ctx.Scan.Pop().Value))
	}
	return nil
}

// IsBool tells kong that the value may be left out.
func (f *revisionFlag) IsBool() bool { return true }

// placeholderName is what stands in -t and -o for the last part of a context's name, where several are built.
const placeholderName = "{name}"

// many builds several contexts together.
func (c *buildCmd) many(s *session, o forge.BuildOptions) error {
	targets, err := c.targets(o)
	if err != nil {
		return badUsage(err)
	}
	return s.withHome(func(h *forge.Home) error { return c.make(s, h, targets) })
}

// make builds targets, or does what was asked for instead.
func (c *buildCmd) make(s *session, h *forge.Home, targets []forge.Target) error {
	if c.Affected != "" {
		var err error
		if targets, err = c.affected(s, h, targets); err != nil || len(targets) == 0 {
			return err
		}
	}
	if question, _, _ := strings.Cut(c.Call, ","); c.Check || question != "build" && question != "" {
		return c.askEach(s, h, targets)
	}
	results, err := c.all(s, h, targets)
	if err != nil {
		return err
	}
	for _, r := range results {
		if c.Quiet || c.Progress == "quiet" {
			_, _ = fmt.Fprintln(s.out, r.ID())
		}
	}
	h.KeepMounts(s.ctx, c.afterwards(s))
	return nil
}

// affected leaves those targets that have changed, and those that they are made from. It says which it leaves out.
func (c *buildCmd) affected(s *session, h *forge.Home, targets []forge.Target) ([]forge.Target, error) {
	changes, err := h.Affected(s.ctx, targets, string(c.Affected))
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	var need func(name string)
	need = func(name string) {
		needed[name] = true
		for _, t := range targets {
			for _, from := range t.From {
				if t.Name == name && !needed[from] {
					need(from)
				}
			}
		}
	}
	for _, change := range changes {
		if change.Why != "" {
			need(change.Target)
		}
	}
	var left []forge.Target
	for i, change := range changes {
		switch {
		case change.Why != "":
			_, _ = fmt.Fprintf(s.err, "forge: %s: %s\n", change.Target, ui.Line(change.Why))
		case needed[change.Target]:
			_, _ = fmt.Fprintf(s.err, "forge: %s: nothing that it reads has changed since %s, but another target is made from it\n", change.Target, c.Affected)
		default:
			_, _ = fmt.Fprintf(s.err, "forge: %s: skipped: nothing that it reads has changed since %s\n", change.Target, c.Affected)
			continue
		}
		left = append(left, targets[i])
	}
	return left, nil
}

// askEach answers --check or --call of each target.
func (c *buildCmd) askEach(s *session, h *forge.Home, targets []forge.Target) error {
	ask := c.call
	question, _, _ := strings.Cut(c.Call, ",")
	switch {
	case c.Check || question == "check" || question == "lint":
		ask = c.check
	case question != "outline" && question != "targets" && question != "context":
		return badUsage(fmt.Errorf("--call=%s: must be build, check, outline, targets or context", c.Call))
	}
	var errs []error
	for i, t := range targets {
		if !c.asJSON() && len(targets) > 1 {
			space := "\n"
			if i == 0 {
				space = ""
			}
			_, _ = fmt.Fprintf(s.out, "%s%s\n", space, t.Name)
		}
		errs = append(errs, ask(s, h, t.BuildOptions))
	}
	return errors.Join(errs...)
}

// targets are the contexts of the command line.
func (c *buildCmd) targets(o forge.BuildOptions) ([]forge.Target, error) {
	for flag, given := range map[string]bool{
		"--plan": c.Plan, "--verify": c.Verify, "--run": c.Start, "--shell": c.asked(), "--why": c.Why != "",
		"--iidfile": c.IIDFile != "", "--lock": c.Lock, "--update": c.Update,
	} {
		if given {
			return nil, fmt.Errorf("%s goes with one context, and not with several or --affected", flag)
		}
	}
	var targets []forge.Target
	used := map[string]string{}
	for _, context := range append([]string{c.Context}, c.Args...) {
		if context == "-" && len(c.Args) > 0 {
			return nil, errors.New("standard input is one context: build it alone")
		}
		t := forge.Target{Name: contextName(context), BuildOptions: o}
		t.Context, t.Args, t.Contexts, t.Annotations = context, maps.Clone(o.Args), maps.Clone(o.Contexts), maps.Clone(o.Annotations)
		last := strings.ToLower(path.Base(t.Name))
		t.Tags, t.Outputs = slices.Clone(o.Tags), slices.Clone(o.Outputs)
		for i := range t.Tags {
			t.Tags[i] = strings.ReplaceAll(t.Tags[i], placeholderName, last)
			if other, taken := used[t.Tags[i]]; taken {
				return nil, fmt.Errorf("-t %s: %s and %s would both get the name %s: put %s into it, which is the last part of each context's path",
					o.Tags[i], other, t.Name, t.Tags[i], placeholderName)
			}
			used[t.Tags[i]] = t.Name
		}
		for i := range t.Outputs {
			out := &t.Outputs[i]
			if out.Dest == "" {
				continue
			}
			out.Dest = strings.ReplaceAll(out.Dest, placeholderName, last)
			if other, taken := used["-o "+out.Dest]; taken {
				return nil, fmt.Errorf("-o dest=%s: %s and %s would both write there: put %s into it, which is the last part of each context's path",
					out.Dest, other, t.Name, placeholderName)
			}
			used["-o "+out.Dest] = t.Name
		}
		if slices.ContainsFunc(targets, func(other forge.Target) bool { return other.Name == t.Name }) {
			return nil, fmt.Errorf("the context %s is given twice", context)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// contextName is what people call a context: its path, or the last part of a URL's.
func contextName(context string) string {
	if scheme, rest, ok := strings.Cut(context, "://"); ok && scheme != "" {
		rest, _, _ = strings.Cut(rest, "#")
		return strings.TrimSuffix(path.Base(rest), ".git")
	}
	return path.Clean(context)
}
