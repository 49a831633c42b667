package forge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/forge-build/forge/event/solve"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// A BuildFileError is a mistake in a build file: what is wrong, where, the line, and a hint.
type BuildFileError = parser.Error

// A Preview is what a build would do for one platform.
type Preview struct {
	Graph  *planner.Graph
	Cached []bool // by Step.Index: the cache answers the step
}

func (p *Preview) cached(s *planner.Step) string {
	if p.Cached[s.Index] {
		return "cached"
	}
	return ""
}

// Text writes a line for each step.
func (p *Preview) Text(w io.Writer) error { return planner.Print(w, p.Graph, p.cached) }

// JSON writes the graph for programs.
func (p *Preview) JSON(w io.Writer) error { return p.Graph.Document(p.cached).JSON(w) }

// Findings are what the lint rules say of a build file.
type Findings struct {
	Warnings []parser.Warning
	file     *parser.File
}

// Print writes them as docker does.
func (f *Findings) Print(w io.Writer) error {
	switch n := len(f.Warnings); n {
	case 0:
		_, err := fmt.Fprintln(w, "Check complete, no warnings found.")
		return err
	case 1:
		if _, err := fmt.Fprintln(w, "Check complete, 1 warning has been found!"); err != nil {
			return err
		}
	default:
		if _, err := fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", n); err != nil {
			return err
		}
	}
	return f.file.PrintWarnings(w, f.Warnings)
}

// JSON writes them as BuildKit's lint subrequest does.
func (f *Findings) JSON(w io.Writer) error {
	type location struct {
		SourceIndex int               `json:"sourceIndex,omitempty"`
		Ranges      []solve.LineRange `json:"ranges,omitempty"`
	}
	type warning struct {
		RuleName    string   `json:"ruleName"`
		Description string   `json:"description,omitempty"`
		URL         string   `json:"url,omitempty"`
		Detail      string   `json:"detail,omitempty"`
		Location    location `json:"location"`
	}
	type text struct {
		Filename string `json:"filename,omitempty"`
		Language string `json:"language,omitempty"`
		Data     []byte `json:"data,omitempty"`
	}
	all := struct {
		Warnings []warning `json:"warnings"`
		Sources  []text    `json:"sources"`
	}{Warnings: []warning{}}
	all.Sources = append(all.Sources, text{f.file.Name, "Dockerfile", []byte(strings.Join(f.file.Lines, "\n"))})
	for _, found := range f.Warnings {
		at := location{0, []solve.LineRange{linesOf(found.Span)}}
		all.Warnings = append(all.Warnings, warning{found.Rule, found.Description, found.URL, found.Detail, at})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}

// Check looks for mistakes in the build file and builds nothing. It returns what it found also if there is an error.
func (h *Home) Check(ctx context.Context, o BuildOptions) (found Findings, err error) {
	found.file, err = h.ask(ctx, o, func(f *parser.File, po planner.Options) error {
		found.Warnings, err = planner.Check(ctx, f, po)
		return err
	})
	if found.file != nil && found.Warnings == nil { // of a file that could not be read to its end
		found.Warnings = found.file.Warnings
	}
	return found, err
}

// Outline says what a build can be given: arguments, secrets, agents (--call outline).
func (h *Home) Outline(ctx context.Context, o BuildOptions) (outline *planner.Outline, err error) {
	_, err = h.ask(ctx, o, func(f *parser.File, po planner.Options) error {
		outline, err = planner.NewOutline(ctx, f, po)
		return err
	})
	return outline, err
}

// Targets lists the stages of the build file (--call targets).
func (h *Home) Targets(ctx context.Context, o BuildOptions) (targets *planner.Targets, err error) {
	_, err = h.ask(ctx, o, func(f *parser.File, _ planner.Options) error {
		targets = planner.NewTargets(f)
		return nil
	})
	return targets, err
}

// A ContextListing is what a build sees of its context, and what hides the rest.
type ContextListing = source.Listing

// ListContext lists what a build would see of its main context (--call context). It builds nothing.
func (h *Home) ListContext(ctx context.Context, o BuildOptions) (l *ContextListing, err error) {
	l = &ContextListing{}
	err = h.withSources(ctx, o, func(src *sources) error {
		*l, err = src.List(ctx)
		return err
	})
	return l, err
}
