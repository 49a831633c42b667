package planner

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
)

// A stage is a FROM with what follows it, or an image or a context that something else than a FROM names. It has more
// fields than a type should, because planning is a walk with a state and this is the state.
type stage struct {
	decl  parser.Stage // of an image named elsewhere: only its place
	label string       // for people: the stage's name or number
	base  string       // what FROM names, expanded

	parent   *stage        // the stage that base names, if it names one
	context  *namedContext // what stands in its place
	replaced bool          // the context is the whole stage, and not only its base
	outside  bool          // named by a COPY --from or a mount, not by a FROM
	platform *ocispec.Platform

	commands []command
	deps     []dependency
	linked   bool // commands and deps are complete but for triggers
	resolved bool // image is known, if there is one
	fired    bool // triggers of its base are among the commands
	planned  bool // the state below is what the stage ends with

	image    *image.Image
	triggers []string // of the image

	fs         tree
	config     image.Config
	vars       *variables                          // environment with args
	args       []instructions.KeyValuePairOptional // declared, in order
	workdirSet bool                                // by this file, not by an image
	noCache    bool
	outline    outline

	cmd, entrypoint, healthcheck once
}

// A command is an instruction of a stage.
type command struct {
	parser.Instruction
	typed   instructions.Command // to be expanded in place
	sources []*stage             // of a COPY: one at most; of a RUN: one for each mount, nil where it has none
}

// A dependency is a stage to read from, and the instruction that does.
type dependency struct {
	on *stage
	at parser.Span
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
	s := &stage{decl: decl, label: decl.Name, outline: p.outline.clone()}
	if s.label == "" {
		s.label = strconv.Itoa(i)
	}
	lint := p.lint.WithMergedConfigFromComments(decl.Comments)
	word, err := p.globals.expand(p.lex, decl.BaseName)
	p.lintFromArgs(word.Unmatched, decl.Location, lint)
	if err != nil {
		return p.fail(decl.Span, err)
	}
	if word.Result == "" {
		return p.fail(decl.Span, fmt.Errorf("base name (%s) should not be blank", decl.BaseName))
	}
	s.base = word.Result
	s.outline.use(word.Matched)
	if decl.Platform != "" {
		if err := p.setStagePlatform(s, lint); err != nil {
			return err
		}
	}
	s.noCache = slices.ContainsFunc(p.opt.NoCacheFilter, func(name string) bool { return strings.EqualFold(name, decl.Name) })
	platform := p.platformOf(s)
	if decl.Name != "" {
		if s.context = p.context(decl.Name, platform); s.context != nil {
			s.replaced = true
		}
	}
	if !s.replaced {
		// Stage names are lower case by now, and what looks like one in another case cannot be an image's name.
		if s.parent = p.names[strings.ToLower(s.base)]; s.parent != nil {
			used := s.outline.used
			s.outline = s.parent.outline.clone()
			s.outline.use(used)
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

func (p *planner) setStagePlatform(s *stage, lint *linter.Linter) error {
	expr, at := s.decl.Platform, s.decl.Location
	word, err := p.globals.expand(p.lex, expr)
	p.lintFromArgs(word.Unmatched, at, lint)
	p.lintPlatform(s, word, lint)
	if err != nil {
		return p.fail(s.decl.Span, fmt.Errorf("platform %s: %w", expr, err))
	}
	suggested := func(err error) error {
		for _, name := range sortedKeys(word.Unmatched) {
			if ok, e := suggest.WrapErrorMaybe(err, name, p.globals.Keys(), true); ok {
				return p.fail(s.decl.Span, e)
			}
		}
		return p.fail(s.decl.Span, err)
	}
	if word.Result == "" {
		return suggested(fmt.Errorf("empty platform value from expression %s", expr))
	}
	platform, err := platforms.Parse(word.Result)
	if err != nil {
		return suggested(fmt.Errorf("platform %s: %w", expr, err))
	}
	s.outline.use(word.Matched)
	s.platform = &platform
	return nil
}

// platformOf is the platform to look for the stage's base with.
func (p *planner) platformOf(s *stage) ocispec.Platform {
	if s.platform != nil {
		return *s.platform
	}
	return p.target
}

// lintFromArgs applies the rule about undeclared variables of a FROM.
func (p *planner) lintFromArgs(unmatched map[string]struct{}, at []bk.Range, lint *linter.Linter) {
	if len(unmatched) == 0 {
		return
	}
	known := slices.Clone(p.globals.Keys())
	for name := range p.outline.args {
		known = append(known, name)
	}
	slices.Sort(known)
	for _, name := range sortedKeys(unmatched) {
		if _, found := slices.BinarySearch(known, name); found {
			continue
		}
		match, _ := suggest.Search(name, known, true)
		lint.Run(&linter.RuleUndefinedArgInFrom, at, linter.RuleUndefinedArgInFrom.Format(name, match))
	}
}

// lintPlatform applies the rules about FROM --platform.
func (p *planner) lintPlatform(s *stage, word shell.ProcessWordResult, lint *linter.Linter) {
	if len(word.Matched) == 1 && len(word.Unmatched) == 0 {
		_, ok := word.Matched["TARGETPLATFORM"]
		if value, _ := p.globals.Get("TARGETPLATFORM"); ok && word.Result == value {
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
