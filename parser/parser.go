// Package parser reads a build file into typed instructions with positions, expanding nothing.
//
// Grammar, typed instructions and lint rules are BuildKit's; positions, limits, ignore files and the shape of an error
// are ours. The file is untrusted.
package parser

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/forge-build/forge/internal/web"
)

// A Span is a range of lines of a build file. Lines count from 1.
type Span struct {
	File       string // as the caller named it
	Start, End int    // first and last line
}

// String is "file:line".
func (s Span) String() string { return fmt.Sprintf("%s:%d", s.File, s.Start) }

// Options are wishes about reading; the zero value reads the file as it is.
type Options struct {
	Syntax string // replaces the file's "# syntax=", as BUILDKIT_SYNTAX does
	Check  string // replaces the file's "# check=", as BUILDKIT_DOCKERFILE_CHECK does
}

// A File is a build file that was read. Nothing writes to it, so that it can be planned many times at once.
type File struct {
	Name       string
	Lines      []string // without their ends
	Directives []Directive
	Escape     rune          // what escapes and continues lines: \ or `
	Args       []Instruction // every ARG before the first FROM
	Stages     []Stage       // at least one
	Warnings   []Warning     // what can be seen without planning
	Check      linter.Config // which rules to apply; Warn is nil
	quiet      *linter.Linter
}

// Text is the file without what its lines mean: for those who only quote it, since instructions take ten times the memory of their text.
func (f *File) Text() *File { return &File{Name: f.Name, Lines: f.Lines} }

// A Directive is a comment that speaks to the reader, such as "# escape=`".
type Directive struct {
	Name, Value string // the name is lower case
	Line        int
}

// An Instruction is a typed instruction with its place.
type Instruction struct {
	instructions.Command
	Span  Span
	node  *bk.Node
	quiet *linter.Linter
}

// Fresh types the instruction anew, without warnings: BuildKit's types expand variables in place, and a File is shared.
func (i Instruction) Fresh() (instructions.Command, error) { return typed(i.node, i.quiet) }

// typed makes an instruction of a node.
func typed(node *bk.Node, lint *linter.Linter) (instructions.Command, error) {
	in, err := instructions.ParseInstructionWithLinter(node, lint)
	if err != nil {
		return nil, err
	}
	command, ok := in.(instructions.Command)
	if !ok {
		return nil, fmt.Errorf("%s is not an instruction of a stage", strings.ToUpper(node.Value))
	}
	return command, nil
}

// A Stage is a FROM and what follows it.
type Stage struct {
	instructions.Stage // its Commands are nil; see Instructions
	Span               Span
	Instructions       []Instruction
}

// maxInstructions is how many instructions a build file may have. Each costs kilobytes on its way to an image, and a copy of
// the environment.
const maxInstructions = 10000

// Parse reads a build file. The name is for people. Every error is an [*Error]; the file then has its lines, and the warnings
// about what comes before the mistake.
func Parse(name string, text []byte, opt Options) (*File, error) {
	f := &File{Name: name, Lines: splitLines(text), quiet: linter.New(&linter.Config{})}
	return f, f.parse(text, opt)
}

func (f *File) parse(text []byte, opt Options) error {
	if len(text) == 0 {
		return f.errorAt(1, errors.New("the Dockerfile cannot be empty"))
	}
	if err := f.readDirectives(text, opt); err != nil {
		return err
	}
	if err := f.checkText(); err != nil {
		return err
	}
	if !slices.ContainsFunc(f.Lines, isInstruction) { // which is wrong as a whole, and not in its last line
		return f.errorAt(1, errors.New("file with no instructions"))
	}
	tree, err := bk.Parse(bytes.NewReader(text))
	if err != nil {
		return f.convertError(err, nil)
	}
	f.Escape = tree.EscapeToken

	if all := tree.AST.Children; len(all) > maxInstructions {
		return f.errorAt(all[maxInstructions].StartLine, fmt.Errorf("more than %d instructions", maxInstructions))
	}
	lint := f.linter()
	for _, w := range tree.Warnings {
		if w.URL == linter.RuleNoEmptyContinuation.URL {
			lint.Run(&linter.RuleNoEmptyContinuation, []bk.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
		}
	}
	for _, node := range tree.AST.Children {
		if err := f.add(node, lint); err != nil {
			return err
		}
	}
	if len(f.Stages) == 0 {
		return f.errorAt(f.lastInstructionLine(), errors.New("dockerfile contains no stages to build"))
	}
	f.checkStageNames(lint)
	f.checkCasing(lint)
	return nil
}

// isInstruction reports whether a line is neither blank nor a comment.
func isInstruction(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && line[0] != '#'
}

// add types one instruction and puts it where it belongs.
func (f *File) add(node *bk.Node, lint *linter.Linter) error {
	parsed, err := instructions.ParseInstructionWithLinter(node, lint)
	if err != nil {
		return f.convertError(err, node)
	}
	span := Span{File: f.Name, Start: node.StartLine, End: node.EndLine}
	if stage, ok := parsed.(*instructions.Stage); ok {
		stage.Commands = nil
		f.Stages = append(f.Stages, Stage{Stage: *stage, Span: span})
		return nil
	}
	command, ok := parsed.(instructions.Command)
	if !ok {
		return f.errorAt(node.StartLine, fmt.Errorf("%s is not an instruction", node.Value))
	}
	in := Instruction{Command: command, Span: span, node: node, quiet: f.quiet}
	if len(f.Stages) > 0 {
		last := &f.Stages[len(f.Stages)-1]
		last.Instructions = append(last.Instructions, in)
		return nil
	}
	if _, ok := command.(*instructions.ArgCommand); !ok {
		return f.errorAt(node.StartLine, fmt.Errorf("no build stage in current context: %s comes before the first FROM",
			strings.ToUpper(node.Value)))
	}
	f.Args = append(f.Args, in)
	return nil
}

// ParseTrigger reads one instruction that an image or a stage left for its children with ONBUILD; at is the FROM that
// fires it. Every error is an [*Error].
func (f *File) ParseTrigger(text string, at Span) (Instruction, error) {
	var node *bk.Node
	fail := func(err error) (Instruction, error) {
		e := f.convertError(err, node)
		e.Span, e.Source = at, web.RedactText(f.Line(at.Start))
		e.Err = fmt.Errorf("ONBUILD trigger %q: %w", text, e.Err)
		return Instruction{}, e
	}
	if why := badText(text); why != "" {
		return fail(errors.New(why))
	}
	tree, err := bk.Parse(strings.NewReader(text))
	if err != nil {
		return fail(err)
	}
	if len(tree.AST.Children) != 1 {
		return fail(errors.New("onbuild trigger should be a single expression"))
	}
	node = tree.AST.Children[0]
	node.StartLine, node.EndLine = at.Start, at.End
	command, err := typed(node, f.quiet)
	if err != nil {
		return fail(err)
	}
	return Instruction{Command: command, Span: at, node: node, quiet: f.quiet}, nil
}

// Line is a line of the file, or nothing if there is no such line.
func (f *File) Line(n int) string {
	if n < 1 || n > len(f.Lines) {
		return ""
	}
	return f.Lines[n-1]
}

func splitLines(text []byte) []string {
	lines := strings.Split(string(text), "\n")
	if n := len(lines); lines[n-1] == "" {
		lines = lines[:n-1]
	}
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(line, "\r")
	}
	return lines
}

func (f *File) lastInstructionLine() int {
	if n := len(f.Args); n > 0 {
		return f.Args[n-1].Span.Start
	}
	return 1
}
