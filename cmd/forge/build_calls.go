package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
)

// check looks for mistakes and prints them as docker does. Any is exit status 1.
func (c *buildCmd) check(s *session, h *forge.Home, o forge.BuildOptions) error {
	return h.Ask(s.ctx, o, func(f *parser.File, po planner.Options) error {
		warnings, err := planner.Check(s.ctx, f, po)
		if len(warnings) == 0 && err == nil {
			_, _ = fmt.Fprintln(s.out, "Check complete, no warnings found.")
			return nil
		}
		if len(warnings) > 0 {
			many := "warnings have"
			if len(warnings) == 1 {
				many = "warning has"
			}
			_, _ = fmt.Fprintf(s.out, "Check complete, %d %s been found!\n", len(warnings), many)
			if err := f.PrintWarnings(s.out, warnings); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		return status(1)
	})
}

// call answers --call outline and --call targets, as text or, with ",format=json", as JSON.
func (c *buildCmd) call(s *session, h *forge.Home, o forge.BuildOptions) error {
	question, rest, _ := strings.Cut(c.Call, ",")
	asJSON := strings.Contains(rest, "format=json") || c.Format == "json"
	return h.Ask(s.ctx, o, func(f *parser.File, po planner.Options) error {
		if question == "targets" {
			t := planner.NewTargets(f)
			if asJSON {
				return t.JSON(s.out)
			}
			return t.Text(s.out)
		}
		outline, err := planner.NewOutline(s.ctx, f, po)
		if err != nil {
			return err
		}
		if asJSON {
			return outline.JSON(s.out)
		}
		return outline.Text(s.out)
	})
}

// plan prints the graph and what the cache knows of it.
func (c *buildCmd) plan(s *session, h *forge.Home, o forge.BuildOptions) error {
	graphs, known, err := h.Plan(s.ctx, o)
	if err != nil {
		return err
	}
	for i, g := range graphs {
		cached := func(step *planner.Step) string {
			if known[i][step.Index] {
				return "cached"
			}
			return ""
		}
		if c.Format == "json" {
			if err := g.Document(cached).JSON(s.out); err != nil {
				return err
			}
			continue
		}
		if err := planner.Print(s.out, g, cached); err != nil {
			return err
		}
	}
	return nil
}

// verify builds twice from nothing and compares.
func (c *buildCmd) verify(s *session, h *forge.Home, o forge.BuildOptions) error {
	show := c.progress(s)
	o.Events = show.Event
	differences, err := h.Verify(s.ctx, o)
	show.Close()
	if err != nil {
		return err
	}
	for _, d := range differences {
		_, _ = fmt.Fprintln(s.out, d)
	}
	if len(differences) > 0 {
		return fmt.Errorf("not reproducible: %d differences", len(differences))
	}
	_, _ = fmt.Fprintln(s.out, "reproducible: two builds from nothing gave the same image")
	return nil
}

func writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}
