package planner

import (
	"bytes"
	"cmp"
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
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"` // args only, from a comment "# NAME text" above
	Value       string   `json:"value,omitempty"`       // args only
	Required    bool     `json:"required,omitempty"`    // secrets and agents only
	Location    Location `json:"location"`
}

// A Location is where something is in the build file. Its JSON is BuildKit's: a range for each line.
type Location parser.Span

// MarshalJSON writes the lines.
func (l Location) MarshalJSON() ([]byte, error) {
	var lines []string
	for n := l.Start; n <= l.End; n++ {
		lines = append(lines, fmt.Sprintf(`{"start":{"line":%d},"end":{"line":%[1]d}}`, n))
	}
	return []byte(`{"ranges":[` + strings.Join(lines, ",") + `]}`), nil
}

// NewOutline plans in order to find out what the target takes.
func NewOutline(ctx context.Context, f *parser.File, opt Options) (*Outline, error) {
	_, target, err := plan(ctx, f, opt, targetOnly)
	if err != nil {
		return nil, err
	}
	o := &Outline{Name: target.decl.Name, Description: target.decl.DocComment, Sources: sources(f)}
	args, secrets, ssh := map[string]Parameter{}, map[string]Parameter{}, map[string]Parameter{}
	seen := map[*stage]bool{}
	var visit func(s *stage)
	visit = func(s *stage) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		for name := range s.state.outline.allUsed() {
			if a, ok := s.state.outline.args[name]; ok {
				askOnce(args, a.Parameter)
			}
		}
		for _, secret := range s.state.outline.secrets {
			askOnce(secrets, secret)
		}
		for _, agent := range s.state.outline.ssh {
			askOnce(ssh, agent)
		}
		visit(s.parent)
		for from := range s.reads() {
			visit(from)
		}
	}
	visit(target)
	o.Args, o.Secrets, o.SSH = inOrder(args), inOrder(secrets), inOrder(ssh)
	return o, nil
}

// inOrder are parameters in the order of the file.
func inOrder(all map[string]Parameter) []Parameter {
	return slices.SortedFunc(maps.Values(all), func(a, b Parameter) int {
		return cmp.Or(a.Location.Start-b.Location.Start, strings.Compare(a.Name, b.Name))
	})
}

func sources(f *parser.File) [][]byte {
	return [][]byte{[]byte(strings.Join(f.Lines, "\n") + "\n")}
}

// Text writes the outline as BuildKit prints it.
func (o *Outline) Text(w io.Writer) error {
	var b bytes.Buffer
	if o.Name != "" || o.Description != "" {
		rows := []string{"TARGET:\t" + cmp.Or(o.Name, "(default)")}
		if o.Description != "" {
			rows = append(rows, "DESCRIPTION:\t"+o.Description)
		}
		writeTable(&b, 1, rows)
		b.WriteByte('\n')
	}
	for _, part := range []struct {
		title string
		list  []Parameter
		row   func(Parameter) string
	}{
		{"BUILD ARG\tVALUE\tDESCRIPTION", o.Args, func(p Parameter) string { return p.Value + "\t" + p.Description }},
		{"SECRET\tREQUIRED", o.Secrets, Parameter.required},
		{"SSH\tREQUIRED", o.SSH, Parameter.required},
	} {
		if len(part.list) == 0 {
			continue
		}
		rows := []string{part.title}
		for _, p := range part.list {
			rows = append(rows, p.Name+"\t"+part.row(p))
		}
		writeTable(&b, 3, rows)
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

// required is "true" for what has to be given, and nothing for what has not.
func (p Parameter) required() string {
	if p.Required {
		return "true"
	}
	return ""
}

// JSON writes the outline as BuildKit's JSON.
func (o *Outline) JSON(w io.Writer) error { return writeJSON(w, o) }

// writeTable writes rows, whose cells are between tabs.
func writeTable(b *bytes.Buffer, padding int, rows []string) {
	tw := tabwriter.NewWriter(b, 0, 0, padding, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(tw, row)
	}
	_ = tw.Flush() // a buffer takes all
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
	secrets, ssh map[string]Parameter
}

// An argument is an ARG with its value.
type argument struct {
	Parameter
	uses map[string]struct{} // args in its default
}

func newOutline() outline {
	return outline{
		args: map[string]argument{}, used: map[string]struct{}{},
		secrets: map[string]Parameter{}, ssh: map[string]Parameter{},
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

// askOnce notes what is asked for, where that is the first time.
func askOnce(of map[string]Parameter, p Parameter) {
	if _, ok := of[p.Name]; !ok {
		of[p.Name] = p
	}
}
