package planner

import (
	"bytes"
	"io"

	"github.com/forge-build/forge/parser"
)

// Targets are the stages of a file, as `--call targets` shows them.
type Targets struct {
	Targets []Target `json:"targets"`
	Sources [][]byte `json:"sources"` // the build file
}

// A Target is a stage that can be built.
type Target struct {
	Name        string   `json:"name,omitempty"`
	Default     bool     `json:"default,omitempty"`
	Description string   `json:"description,omitempty"` // from a comment "# NAME text" above
	Base        string   `json:"base,omitempty"`        // as written
	Platform    string   `json:"platform,omitempty"`    // as written
	Location    Location `json:"location"`
}

// NewTargets lists the stages of a file.
func NewTargets(f *parser.File) *Targets {
	t := &Targets{Sources: sources(f)}
	for i, s := range f.Stages {
		t.Targets = append(t.Targets, Target{
			Name: s.Name, Default: i == len(f.Stages)-1, Description: s.DocComment,
			Base: s.BaseName, Platform: s.Platform, Location: Location(s.Span),
		})
	}
	return t
}

// Text writes the targets as BuildKit prints them.
func (t *Targets) Text(w io.Writer) error {
	rows := []string{"TARGET\tDESCRIPTION"}
	for _, target := range t.Targets {
		name := target.Name
		switch {
		case target.Default && name == "":
			name = "(default)"
		case target.Default:
			name += " (default)"
		}
		rows = append(rows, name+"\t"+target.Description)
	}
	var b bytes.Buffer
	writeTable(&b, 1, rows)
	_, err := w.Write(b.Bytes())
	return err
}

// JSON writes the targets as BuildKit's JSON.
func (t *Targets) JSON(w io.Writer) error { return writeJSON(w, t) }
