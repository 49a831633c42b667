package planner

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
)

// A stage is a FROM with what follows it, or an image or a context that something else than a FROM names.
type stage struct {
	decl     parser.Stage // of an image named elsewhere: only its place
	label    string       // for people: the stage's name or number
	kind     stageKind
	base     string        // what FROM names, expanded
	parent   *stage        // the stage that base names, if it names one
	context  *namedContext // what stands in its place
	platform *ocispec.Platform
	image    *image.Image // once it is resolved, if there is one

	commands []command
	done     stageProgress
	state    stageState
}

// A stageKind says where a stage comes from.
type stageKind int

const (
	declared stageKind = iota // a FROM
	replaced                  // a FROM, but its context is the whole stage and not only its base
	external                  // an image or context that a COPY --from or a mount names
)

// A stageProgress says how far the planning of a stage has come; each includes those before it.
type stageProgress int

const (
	linked   stageProgress = iota + 1 // commands are complete but for triggers
	resolved                          // image is known, if there is one
	expanded                          // triggers of its base are among the commands
	planned                           // state is what the stage ends with
)

// A stageState is what instructions change. Planning is a walk with a state, and this is the state. That of no stage is what
// stands before the first FROM: only vars and outline.
type stageState struct {
	fs         tree
	config     image.Config
	vars       *variables                          // environment with args
	args       []instructions.KeyValuePairOptional // declared, in order
	workdirSet bool                                // by this file, not by an image
	outline    outline

	cmd, entrypoint, healthcheck []bk.Range // where the last one is
}

// A command is an instruction of a stage.
type command struct {
	parser.Instruction
	typed   instructions.Command // to be expanded in place
	sources []*stage             // of a COPY: one at most; of a RUN: one for each mount, nil where it has none
}

// reads are the stages that a stage reads from, each with the instruction that does.
func (s *stage) reads() iter.Seq2[*stage, parser.Span] {
	return func(yield func(*stage, parser.Span) bool) {
		for _, c := range s.commands {
			for _, from := range c.sources {
				if from != nil && !yield(from, c.Span) {
					return
				}
			}
		}
	}
}

// A tree is a file system: a step's, a context's, or neither, the empty one.
type tree struct {
	step    *Step
	context *namedContext
}

// A namedContext is an entry of Options.Contexts.
type namedContext struct {
	Context
	name string // its key
}

// declare makes the stage of the i'th FROM. It only finds out what the FROM names.
func (p *planner) declare(i int) error {
	decl := p.file.Stages[i]
	s := &stage{decl: decl, label: decl.Name, state: stageState{outline: p.global.outline.clone()}}
	if s.label == "" {
		s.label = fmt.Sprintf("stage-%d", i)
	}
	lint := p.rules.lint.WithMergedConfigFromComments(decl.Comments)
	word, err := p.global.vars.expand(p.lex, decl.BaseName)
	p.lintFromArgs(word.Unmatched, decl.Location, lint)
	if err != nil {
		return p.fail(decl.Span, err)
	}
	if err := p.spend(len(word.Result) + 10*len(s.state.outline.args)); err != nil {
		return p.fail(decl.Span, err)
	}
	if word.Result == "" {
		return p.fail(decl.Span, fmt.Errorf("base name (%s) should not be blank", decl.BaseName))
	}
	s.base = word.Result
	s.state.outline.use(word.Matched)
	if decl.Platform != "" {
		if err := p.setStagePlatform(s, lint); err != nil {
			return err
		}
	}
	platform := p.platformOf(s)
	if decl.Name != "" {
		if s.context = p.context(decl.Name, platform); s.context != nil {
			s.kind = replaced
		}
	}
	if s.kind != replaced {
		// Stage names are lower case by now, and what looks like one in another case cannot be an image's name.
		if s.parent = p.names[strings.ToLower(s.base)]; s.parent != nil {
			used := s.state.outline.used
			s.state.outline = s.parent.state.outline.clone()
			s.state.outline.use(used)
			if decl.Platform != "" {
				s.lintIgnoredPlatform(lint)
			}
		} else if s.base != scratch {
			s.context = p.context(s.base, platform)
		}
	}
	p.stages = append(p.stages, s)
	if decl.Name != "" {
		p.names[decl.Name] = s
	}
	return nil
}

// noCache reports whether the steps of a stage are done in any case (--no-cache-filter).
func (p *planner) noCache(s *stage) bool {
	return s.decl.Name != "" && slices.ContainsFunc(p.opt.NoCacheFilter, func(name string) bool { return strings.EqualFold(name, s.decl.Name) })
}

func (p *planner) setStagePlatform(s *stage, lint *linter.Linter) error {
	expr, at := s.decl.Platform, s.decl.Location
	word, err := p.global.vars.expand(p.lex, expr)
	p.lintFromArgs(word.Unmatched, at, lint)
	p.lintPlatform(s, word, lint)
	if err != nil {
		return p.fail(s.decl.Span, fmt.Errorf("platform %s: %w", expr, err))
	}
	suggested := func(err error) error {
		e := p.file.ErrorAt(s.decl.Span, err)
		for _, name := range sortedKeys(word.Unmatched) {
			e = e.Suggest(name, p.global.vars.Keys())
		}
		return e
	}
	if word.Result == "" {
		return suggested(fmt.Errorf("empty platform value from expression %s", expr))
	}
	platform, err := platforms.Parse(word.Result)
	if err != nil {
		return suggested(fmt.Errorf("platform %s: %w", expr, err))
	}
	s.state.outline.use(word.Matched)
	s.platform = &platform
	return nil
}

// platformOf is the platform to look for the stage's base with.
func (p *planner) platformOf(s *stage) ocispec.Platform {
	if s.platform != nil {
		return *s.platform
	}
	return p.platforms.target
}

// lintFromArgs applies the rule about undeclared variables of a FROM.
func (p *planner) lintFromArgs(unmatched map[string]struct{}, at []bk.Range, lint *linter.Linter) {
	if len(unmatched) == 0 {
		return
	}
	known := slices.Clone(p.global.vars.Keys())
	for name := range p.global.outline.args {
		known = append(known, name)
	}
	slices.Sort(known)
	for _, name := range sortedKeys(unmatched) {
		if _, found := slices.BinarySearch(known, name); found {
			continue
		}
		lint.Run(&linter.RuleUndefinedArgInFrom, at, linter.RuleUndefinedArgInFrom.Format(name, parser.Nearest(name, known)))
	}
}

// lintPlatform applies the rules about FROM --platform.
func (p *planner) lintPlatform(s *stage, word shell.ProcessWordResult, lint *linter.Linter) {
	if len(word.Matched) == 1 && len(word.Unmatched) == 0 {
		_, ok := word.Matched["TARGETPLATFORM"]
		if value, _ := p.global.vars.Get("TARGETPLATFORM"); ok && word.Result == value {
			lint.Run(&linter.RuleRedundantTargetPlatform, s.decl.Location,
				linter.RuleRedundantTargetPlatform.Format(s.decl.Platform))
		}
	}
	if len(word.Matched) > 0 || len(word.Unmatched) > 0 {
		return
	}
	platform, err := platforms.Parse(word.Result)
	if err != nil || strings.Contains(s.decl.Name, platform.OS) || strings.Contains(s.decl.Name, platform.Architecture) {
		return
	}
	lint.Run(&linter.RuleFromPlatformFlagConstDisallowed, s.decl.Location,
		linter.RuleFromPlatformFlagConstDisallowed.Format(word.Result))
}

// stageNames are the names that a FROM, a COPY --from or a target can mean.
func (p *planner) stageNames() []string {
	var names []string
	for _, s := range p.stages {
		if s.decl.Name != "" {
			names = append(names, s.decl.Name)
		}
	}
	return names
}

func namesStage(stages []parser.Stage, name string) bool {
	return slices.ContainsFunc(stages, func(s parser.Stage) bool { return s.Name != "" && strings.EqualFold(s.Name, name) })
}

func sortedKeys(set map[string]struct{}) []string {
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
