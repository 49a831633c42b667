package parser

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/forge-build/forge/internal/web"
)

// A Warning is what a lint rule found.
type Warning struct {
	Rule, Description, URL, Detail string
	Span                           Span
	Source                         []string // the lines of the span
}

// linter applies the file's rules and keeps what they find in f.Warnings.
func (f *File) linter() *linter.Linter {
	return f.Linter(func(w Warning) { f.Warnings = append(f.Warnings, w) })
}

// Linter applies the file's rules and hands what they find to report, not concurrently if the linter is not used so.
func (f *File) Linter(report func(Warning)) *linter.Linter {
	config := f.Check
	config.Warn = func(rule, description, url, detail string, at []bk.Range) {
		w := Warning{Rule: rule, Description: description, URL: url, Detail: detail, Span: Span{File: f.Name}}
		for _, r := range at {
			if w.Span.Start == 0 || r.Start.Line < w.Span.Start {
				w.Span.Start = r.Start.Line
			}
			w.Span.End = max(w.Span.End, r.Start.Line, r.End.Line)
		}
		for n := max(1, w.Span.Start); n <= w.Span.End && n <= len(f.Lines); n++ {
			w.Source = append(w.Source, web.RedactText(f.Lines[n-1]))
		}
		report(w)
	}
	return linter.New(&config)
}

// SortWarnings sorts by place, then rule, then detail.
func SortWarnings(ws []Warning) {
	slices.SortStableFunc(ws, func(a, b Warning) int {
		if a.Span.Start != b.Span.Start {
			return a.Span.Start - b.Span.Start
		}
		if c := strings.Compare(a.Rule, b.Rule); c != 0 {
			return c
		}
		return strings.Compare(a.Detail, b.Detail)
	})
}

// Violation is the error that "# check=error=true" makes of warnings; nil if there are none or the file does not ask.
func (f *File) Violation(ws []Warning) error {
	if !f.Check.ReturnAsError || len(ws) == 0 {
		return nil
	}
	var rules []string
	for _, w := range ws {
		if !slices.Contains(rules, w.Rule) {
			rules = append(rules, w.Rule)
		}
	}
	return f.ErrorAt(ws[0].Span, fmt.Errorf("lint violation found for rules: %s", strings.Join(rules, ", ")))
}

// PrintWarnings writes warnings as BuildKit's check does, each with the lines it is about.
func (f *File) PrintWarnings(w io.Writer, ws []Warning) error {
	var b strings.Builder
	for _, warning := range ws {
		fmt.Fprintf(&b, "\nWARNING: %s", warning.Rule)
		if warning.URL != "" {
			fmt.Fprintf(&b, " - %s", warning.URL)
		}
		fmt.Fprintf(&b, "\n%s\n", warning.Detail)
		f.quote(&b, warning.Span)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Quote writes the lines of a span with some around them and marks them, as BuildKit does under an error.
func (f *File) Quote(w io.Writer, span Span) error {
	var b strings.Builder
	f.quote(&b, span)
	_, err := io.WriteString(w, b.String())
	return err
}

func (f *File) quote(b *strings.Builder, span Span) {
	if span.Start < 1 || span.Start > len(f.Lines) {
		return
	}
	first, last := span.Start, min(max(span.End, span.Start), len(f.Lines))
	around := 2
	if first == last {
		around = 4
	}
	from, to := first, last
	for n := 0; n < around; n++ {
		if from > 1 {
			from--
			n++
		}
		if to < len(f.Lines) {
			to++
			n++
		}
	}
	fmt.Fprintf(b, "%s:%d\n--------------------\n", span.File, first)
	for i := from; i <= to; i++ {
		mark := "   "
		if i >= first && i <= last {
			mark = ">>>"
		}
		fmt.Fprintf(b, " %3d | %s %s\n", i, mark, f.Lines[i-1])
	}
	b.WriteString("--------------------\n")
}

// checkStageNames applies the rules about names of stages that need the whole file.
func (f *File) checkStageNames(lint *linter.Linter) {
	seen := map[string]bool{}
	for _, stage := range f.Stages {
		if stage.Name == "" {
			continue
		}
		if stage.Name == "context" || stage.Name == "scratch" {
			lint.Run(&linter.RuleReservedStageName, stage.Location, linter.RuleReservedStageName.Format(stage.Name))
		}
		if seen[stage.Name] {
			lint.Run(&linter.RuleDuplicateStageName, stage.Location, linter.RuleDuplicateStageName.Format(stage.Name))
		}
		seen[stage.Name] = true
	}
}

// checkCasing wants every instruction in the case of the majority, upper case if there is none.
func (f *File) checkCasing(lint *linter.Linter) {
	type keyword struct {
		text string
		at   []bk.Range
	}
	var words []keyword
	for _, stage := range f.Stages {
		words = append(words, keyword{stage.OrigCmd, stage.Location})
		for _, in := range stage.Instructions {
			words = append(words, keyword{in.Name(), in.Location()})
		}
	}
	balance := 0 // lower case words less upper case words
	for _, w := range words {
		switch w.text {
		case strings.ToLower(w.text):
			balance++
		case strings.ToUpper(w.text):
			balance--
		}
	}
	fold, name := strings.ToUpper, "uppercase"
	if balance > 0 {
		fold, name = strings.ToLower, "lowercase"
	}
	for _, w := range words {
		if w.text != fold(w.text) {
			lint.Run(&linter.RuleConsistentInstructionCasing, w.at, linter.RuleConsistentInstructionCasing.Format(w.text, name))
		}
	}
}
