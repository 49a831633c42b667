package planner

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// A Document is a graph for programs to read, as `forge build --plan --format json` prints it.
type Document struct {
	Target   string         `json:"target,omitempty"`
	Platform string         `json:"platform"`
	Steps    []DocumentStep `json:"steps"`
	Result   *int           `json:"result"` // a step, or null: the empty file system
	Config   image.Config   `json:"config"` // its history has one entry that is not empty for each layer
}

// A DocumentStep is a step of a [Document].
type DocumentStep struct {
	Index    int           `json:"index"`
	Number   int           `json:"number"` // index and 1: what names it to people, and in events
	Kind     string        `json:"kind"`   // base, run, copy or mkdir
	Name     string        `json:"name"`
	Stage    string        `json:"stage"`
	Source   string        `json:"source"` // file:line
	On       *int          `json:"on"`     // a step, or null: the empty file system
	Reads    []int         `json:"reads,omitempty"`
	Contexts []string      `json:"contexts,omitempty"` // "" is the main one
	NoCache  bool          `json:"noCache,omitempty"`
	Cached   string        `json:"cached,omitempty"` // as the caller says
	Digest   digest.Digest `json:"digest,omitempty"` // base: of the manifest
	Op       Op            `json:"op,omitempty"`     // but for a base
}

// Document is the graph for programs. cached says whether and why a step will be reused, "" if it is not known; it may
// be nil.
func (g *Graph) Document(cached func(*Step) string) *Document {
	d := &Document{Target: g.Target, Platform: platforms.Format(g.Platform), Steps: []DocumentStep{}, Config: g.Config}
	if g.Result != nil {
		d.Result = &g.Result.Index
	}
	for _, s := range g.Steps {
		ds := DocumentStep{
			Index: s.Index, Number: s.Number(), Kind: s.Kind(), Name: s.Name, Stage: s.Stage, Source: s.Span.String(),
			Contexts: s.Contexts(), NoCache: s.NoCache, Op: s.Op,
		}
		if s.On != nil {
			ds.On = &s.On.Index
		}
		for _, r := range s.Reads {
			ds.Reads = append(ds.Reads, r.Index)
		}
		switch op := s.Op.(type) {
		case *Base:
			ds.Op, ds.Digest = nil, op.Image.Descriptor.Digest
		case *Run:
			ds.Op = op.withoutSecrets()
		case *Copy:
			ds.Op = op.withoutSecrets()
		}
		if cached != nil {
			ds.Cached = cached(s)
		}
		d.Steps = append(d.Steps, ds)
	}
	return d
}

// withoutSecrets is op without the proxies, whose addresses may hold passwords.
func (op *Run) withoutSecrets() *Run {
	shown := *op
	shown.Proxy = nil
	return &shown
}

// withoutSecrets is op without names, passwords and tokens in the addresses of its sources.
func (op *Copy) withoutSecrets() *Copy {
	shown := *op
	shown.Sources = slices.Clone(op.Sources)
	for i, src := range shown.Sources {
		shown.Sources[i].URL = web.Redact(src.URL)
		if src.Git != nil {
			git := *src.Git
			git.Remote = web.Redact(git.Remote)
			shown.Sources[i].Git = &git
		}
	}
	return &shown
}

// JSON writes the document.
func (d *Document) JSON(w io.Writer) error { return writeJSON(w, d) }

// Print writes the graph for people, a step a line: its number, what it does, what it stands on and reads, where it is
// written and, if cached is not nil, what cached says of it.
func Print(w io.Writer, g *Graph, cached func(*Step) string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range g.Steps { // a tabwriter keeps errors for Flush
		line := []string{s.ref(), clip(s.Name), s.inputs(), s.Stage, s.Span.String()}
		if cached != nil {
			line = append(line, cached(s))
		}
		fmt.Fprintln(tw, strings.TrimRight(strings.Join(line, "\t"), "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	result := "the empty file system"
	if g.Result != nil {
		result = g.Result.ref()
	}
	_, err := fmt.Fprintf(w, "result: %s, %s\n", result, platforms.Format(g.Platform))
	return err
}

// Number is what names the step to people, wherever they meet it: from 1, in the order of the graph, or of all graphs that were joined.
func (s *Step) Number() int { return cmp.Or(s.number, s.Index+1) }

// ref is the number as it is written.
func (s *Step) ref() string { return "#" + strconv.Itoa(s.Number()) }

// Kind is the step's operation in a word: base, run, copy or mkdir.
func (s *Step) Kind() string {
	switch s.Op.(type) {
	case *Base:
		return "base"
	case *Run:
		return "run"
	case *Copy:
		return "copy"
	case *Mkdir:
		return "mkdir"
	}
	return ""
}

// Contexts are the build contexts that the step reads files from, sorted; "" is the main one.
func (s *Step) Contexts() []string {
	var names []string
	switch op := s.Op.(type) {
	case *Copy:
		if op.From.Read < 0 && slices.ContainsFunc(op.Sources, func(src Source) bool { return src.Path != "" }) {
			names = append(names, op.From.Context)
		}
	case *Run:
		for _, m := range op.Mounts {
			if m.From != nil && m.From.Read < 0 {
				names = append(names, m.From.Context)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Quote is the lines of the build file that the step comes from, marked, with some around them.
func (s *Step) Quote() string {
	if s.file == nil || s.file.Name != s.Span.File {
		return ""
	}
	var b strings.Builder
	_ = s.file.Quote(&b, s.Span) // a Builder has no errors
	return web.RedactText(b.String())
}

// inputs says what the step stands on and reads: "on #1, reads #2 #3, context".
func (s *Step) inputs() string {
	var parts []string
	if s.On != nil {
		parts = append(parts, "on "+s.On.ref())
	}
	if len(s.Reads) > 0 {
		text := "reads"
		for _, r := range s.Reads {
			text += " " + r.ref()
		}
		parts = append(parts, text)
	}
	for _, name := range s.Contexts() {
		parts = append(parts, strings.TrimSpace("context "+name))
	}
	return strings.Join(parts, ", ")
}

// clip keeps a name on one line, of a length that leaves room for the rest.
func clip(name string) string {
	name = strings.Join(strings.Fields(name), " ")
	const most = 60
	if r := []rune(name); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return name
}
