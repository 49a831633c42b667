package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

// check looks for mistakes and prints them as docker does. Any is exit status 1.
func (c *buildCmd) check(s *session, h *forge.Home, o forge.BuildOptions) error {
	found, err := h.Check(s.ctx, o)
	if err == nil || len(found.Warnings) > 0 {
		show, out := found.Print, ui.Clean(s.out)
		if c.asJSON() {
			show, out = found.JSON, jsonWriter{s.out}
		}
		if err := show(out); err != nil {
			return err
		}
	}
	if err == nil && len(found.Warnings) > 0 {
		return status(1)
	}
	return err
}

// An answer can be printed for people and for programs.
type answer interface {
	Text(w io.Writer) error
	JSON(w io.Writer) error
}

// call answers --call outline, targets and context, as text or, with ",format=json", as JSON.
func (c *buildCmd) call(s *session, h *forge.Home, o forge.BuildOptions) error {
	question, _, _ := strings.Cut(c.Call, ",")
	var a answer
	var err error
	switch question {
	case "targets":
		a, err = h.Targets(s.ctx, o)
	case "context":
		a, err = h.ListContext(s.ctx, o)
	default:
		a, err = h.Outline(s.ctx, o)
	}
	if err != nil {
		return err
	}
	if c.asJSON() {
		return a.JSON(jsonWriter{s.out})
	}
	return a.Text(ui.Clean(s.out))
}

// asJSON reports whether an answer is to be JSON.
func (c *buildCmd) asJSON() bool {
	return strings.Contains(c.Call, ",format=json") || c.Format == "json"
}

// plan prints the graphs and what the cache knows of them.
func (c *buildCmd) plan(s *session, h *forge.Home, o forge.BuildOptions) error {
	previews, err := h.Plan(s.ctx, o)
	for i := range previews {
		show, out := previews[i].Text, ui.Clean(s.out)
		if c.Format == "json" {
			show, out = previews[i].JSON, jsonWriter{s.out}
		}
		if err := show(out); err != nil {
			return err
		}
	}
	return err
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
