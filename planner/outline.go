package planner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/forge-build/forge/parser"
)

// An Outline is what can be given to a build: args, secrets and agents, as `--call outline` shows them.
type Outline struct {
	Name        string      `json:"name,omitempty"` // of the stage
	Description string      `json:"description,omitempty"`
	Args        []Parameter `json:"args,omitempty"`
	Secrets     []Parameter `json:"secrets,omitempty"`
	SSH         []Parameter `json:"ssh,omitempty"`
	Sources     [][]byte    `json:"sources,omitempty"` // the build file
}

// A Parameter is one of them.
type Parameter struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"` // args only, from a comment "# NAME text" above
	Value       string    `json:"value,omitempty"`       // args only
	Required    bool      `json:"required,omitempty"`    // secrets and agents only
	Location    *Location `json:"location,omitempty"`
}

// A Location is where something is in the sources of an [Outline] or a [Targets], in BuildKit's form.
type Location struct {
	SourceIndex int     `json:"sourceIndex,omitempty"`
	Ranges      []Range `json:"ranges,omitempty"`
}

// A Range is one line.
type Range struct {
	Start Position `json:"start"`
	End   Position `json:"end"`
}

// A Position is a line, from 1.
type Position struct {
	Line int `json:"line"`
}

func locate(at parser.Span) *Location {
	var l Location
	for n := at.Start; n <= at.End; n++ {
		l.Ranges = append(l.Ranges, Range{Position{n}, Position{n}})
	}
	return &l
}

// NewOutline plans in order to find out what the target takes.
func NewOutline(ctx context.Context, f *parser.File, opt Options) (*Outline, error) {
	_, target, err := plan(ctx, f, opt, targetOnly)
	if err != nil {
		return nil, err
	}
	o := &Outline{Name: target.decl.Name, Description: target.decl.DocComment, Sources: sources(f)}
	var found [3]map[string]bool
	for i := range found {
		found[i] = map[string]bool{}
	}
	seen := map[*stage]bool{}
	var visit func(s *stage)
	visit = func(s *stage) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		for name := range s.state.outline.allUsed() {
			if a, ok := s.state.outline.args[name]; ok && !found[0][name] {
				found[0][name] = true
				o.Args = append(o.Args, Parameter{Name: name, Description: a.description, Value: a.value, Location: locate(a.at)})
			}
		}
		o.Secrets = appendAsked(o.Secrets, s.state.outline.secrets, found[1])
		o.SSH = appendAsked(o.SSH, s.state.outline.ssh, found[2])
		visit(s.parent)
		for _, d := range s.deps {
			visit(d.on)
		}
	}
	visit(target)
	for _, list := range [][]Parameter{o.Args, o.Secrets, o.SSH} {
		slices.SortFunc(list, func(a, b Parameter) int {
			if c := a.Location.Ranges[0].Start.Line - b.Location.Ranges[0].Start.Line; c != 0 {
				return c
			}
			return strings.Compare(a.Name, b.Name)
		})
	}
	return o, nil
}

func appendAsked(list []Parameter, asked map[string]asked, found map[string]bool) []Parameter {
	for name, a := range asked {
		if !found[name] {
			found[name] = true
			list = append(list, Parameter{Name: name, Required: a.required, Location: locate(a.at)})
		}
	}
	return list
}

func sources(f *parser.File) [][]byte {
	return [][]byte{[]byte(strings.Join(f.Lines, "\n") + "\n")}
}

// Text writes the outline as BuildKit prints it.
func (o *Outline) Text(w io.Writer) error {
	t := table{w: w}
	if o.Name != "" || o.Description != "" {
		name := o.Name
		if name == "" {
			name = "(default)"
		}
		rows := []string{"TARGET:\t" + name}
		if o.Description != "" {
			rows = append(rows, "DESCRIPTION:\t"+o.Description)
		}
		t.print(1, rows)
	}
	if len(o.Args) > 0 {
		rows := []string{"BUILD ARG\tVALUE\tDESCRIPTION"}
		for _, a := range o.Args {
			rows = append(rows, a.Name+"\t"+a.Value+"\t"+a.Description)
		}
		t.print(3, rows)
	}
	for _, part := range []struct {
		title string
		list  []Parameter
	}{{"SECRET", o.Secrets}, {"SSH", o.SSH}} {
		if len(part.list) == 0 {
			continue
		}
		rows := []string{part.title + "\tREQUIRED"}
		for _, a := range part.list {
			required := ""
			if a.Required {
				required = "true"
			}
			rows = append(rows, a.Name+"\t"+required)
		}
		t.print(3, rows)
	}
	return t.err
}

// JSON writes the outline as BuildKit's JSON.
func (o *Outline) JSON(w io.Writer) error { return writeJSON(w, o) }

// A table writes tables and an empty line after each. It keeps the first error.
type table struct {
	w   io.Writer
	err error
}

func (t *table) print(padding int, rows []string) {
	tw := tabwriter.NewWriter(t.w, 0, 0, padding, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(tw, row) // a tabwriter keeps errors for Flush
	}
	err := tw.Flush()
	if err == nil {
		_, err = fmt.Fprintln(t.w)
	}
	if t.err == nil {
		t.err = err
	}
}

func writeJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// An outline is what a stage has met so far of args, secrets and agents.
type outline struct {
	args         map[string]argument // declared, here or where all stages see it
	used         map[string]struct{}
	secrets, ssh map[string]asked
}

// An argument is an ARG with its value.
type argument struct {
	name, value, description string
	uses                     map[string]struct{} // args in its default
	at                       parser.Span
}

// asked is a secret or an agent that a mount asks for.
type asked struct {
	required bool
	at       parser.Span
}

func newOutline() outline {
	return outline{
		args: map[string]argument{}, used: map[string]struct{}{},
		secrets: map[string]asked{}, ssh: map[string]asked{},
	}
}

func (o outline) clone() outline {
	return outline{maps.Clone(o.args), maps.Clone(o.used), maps.Clone(o.secrets), maps.Clone(o.ssh)}
}

func (o outline) use(names map[string]struct{}) { maps.Copy(o.used, names) }

// allUsed are the used args and those that their defaults use.
func (o outline) allUsed() map[string]struct{} {
	all := map[string]struct{}{}
	var visit func(names map[string]struct{})
	visit = func(names map[string]struct{}) {
		for name := range names {
			if _, ok := all[name]; !ok {
				all[name] = struct{}{}
				visit(o.args[name].uses)
			}
		}
	}
	visit(o.used)
	return all
}

// askOnce notes that a secret or agent is asked for, where that is the first time.
func askOnce(of map[string]asked, id string, a asked) {
	if _, ok := of[id]; !ok {
		of[id] = a
	}
}
