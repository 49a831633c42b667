package planner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/patternmatcher"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/parser"
)

// A planner makes one plan.
type planner struct {
	file *parser.File
	text *parser.File // what steps quote
	opt  Options

	platforms platformChoice
	lex       *shell.Lex
	rules     lintRules
	proxy     []string          // of every RUN
	contexts  map[string]string // how a name is looked up → key of Options.Contexts

	global        stageState // before the first FROM
	stages        []*stage   // of the file, in order
	names         map[string]*stage
	steps         steps
	expandedBytes int // of all histories and names of steps
}

// A platformChoice is what to build on and for.
type platformChoice struct {
	build, target ocispec.Platform
	implicit      bool // nobody asked for a platform
}

// lintRules are the rules, and what they found.
type lintRules struct {
	lint     *linter.Linter
	warnings []parser.Warning
	ignore   *patternmatcher.PatternMatcher // nil if nothing is ignored
}

// A stageChoice says which stages to plan.
type stageChoice int

const (
	targetOnly stageChoice = iota // and what it needs
	everyStage
)

// Plan finds out what has to be done to make the image that f describes. It writes to neither f nor opt. Every error
// about the file is a [*parser.Error], and the graph
// beside an error has only the warnings that came before it.
func Plan(ctx context.Context, f *parser.File, opt Options) (*Graph, error) {
	p, target, err := plan(ctx, f, opt, targetOnly)
	g := &Graph{Warnings: p.allWarnings()}
	if err == nil {
		err = p.fill(ctx, g, target)
	}
	return g, err
}

// Check plans to find what the lint rules say. It plans every stage unless opt has a target, and returns warnings even
// if there is an error.
func Check(ctx context.Context, f *parser.File, opt Options) ([]parser.Warning, error) {
	which := targetOnly
	if opt.Target == "" {
		which = everyStage
	}
	p, _, err := plan(ctx, f, opt, which)
	warnings := p.allWarnings()
	if err == nil {
		err = f.Violation(warnings)
	}
	return warnings, err
}

// plan does all of planning but for the result. The planner is returned even if there is an error.
func plan(ctx context.Context, f *parser.File, opt Options, which stageChoice) (*planner, *stage, error) {
	p, err := newPlanner(f, opt)
	if err != nil {
		return p, nil, err
	}
	p.checkDefaultBases()
	p.lintGlobals()
	if err := p.setGlobals(ctx); err != nil {
		return p, nil, err
	}
	for i := range f.Stages {
		if err := ctx.Err(); err != nil {
			return p, nil, err
		}
		if err := p.declare(i); err != nil {
			return p, nil, err
		}
	}
	target, err := p.findTarget()
	if err != nil {
		return p, nil, err
	}
	for _, s := range p.stages { // also of those nobody needs
		if err := s.checkName(); err != nil {
			return p, nil, p.fail(s.decl.Span, err)
		}
		if err := p.checkSources(s); err != nil {
			return p, nil, err
		}
	}
	wanted := []*stage{target}
	if which == everyStage {
		wanted = p.stages
	}
	reachable, err := p.reach(ctx, wanted)
	if err != nil {
		return p, nil, err
	}
	for _, s := range reachable {
		if s.kind == external {
			continue // until an instruction names it, so that steps are in the order of the file
		}
		if err := p.planStage(ctx, s); err != nil {
			return p, nil, err
		}
	}
	return p, target, nil
}

func newPlanner(f *parser.File, opt Options) (*planner, error) {
	p := &planner{
		file: f, text: f.Text(), opt: opt,
		platforms: platformChoice{build: opt.BuildPlatform, target: opt.Platform},
		lex:       shell.NewLex(f.Escape),
		global:    stageState{vars: &variables{escape: f.Escape}, outline: newOutline()},
		names:     map[string]*stage{},
		proxy:     proxyList(opt.BuildArgs),
		contexts:  contextNames(opt.Contexts),
	}
	if p.platforms.build.OS == "" {
		p.platforms.build = platforms.DefaultSpec()
	}
	if p.platforms.target.OS == "" {
		p.platforms.target, p.platforms.implicit = p.platforms.build, true
	}
	if p.platforms.target.OS != "linux" {
		return p, fmt.Errorf("platform %s: only linux images are built here", platforms.FormatAll(p.platforms.target))
	}
	switch opt.Network {
	case "", "default", "none", "host":
	default:
		return p, fmt.Errorf("network mode %q: not default, none or host", opt.Network)
	}
	p.rules.lint = f.Linter(func(w parser.Warning) { p.rules.warnings = append(p.rules.warnings, w) })
	if len(opt.Ignore) > 0 {
		m, err := patternmatcher.New(opt.Ignore)
		if err != nil {
			return p, fmt.Errorf("ignore patterns: %w", err)
		}
		p.rules.ignore = m
	}
	return p, nil
}

// findTarget finds the stage to build.
func (p *planner) findTarget() (*stage, error) {
	if p.opt.Target == "" {
		return p.stages[len(p.stages)-1], nil
	}
	if s := p.names[strings.ToLower(p.opt.Target)]; s != nil {
		return s, nil
	}
	err := fmt.Errorf("target stage %q could not be found", p.opt.Target)
	return nil, p.file.ErrorAt(p.file.Stages[len(p.file.Stages)-1].Span, err).Suggest(p.opt.Target, p.stageNames())
}

// fill makes g, which has the warnings, the plan for a stage that has been planned.
func (p *planner) fill(ctx context.Context, g *Graph, target *stage) error {
	if err := p.file.Violation(g.Warnings); err != nil {
		return err
	}
	epoch, err := p.epoch(ctx)
	if err != nil {
		return err
	}
	g.Target, g.Epoch, g.Unused = target.decl.Name, epoch, p.unusedArgs()
	g.Result = p.standOn(target)
	g.Steps = p.steps.needed(g.Result)
	for _, s := range g.Steps {
		s.Epoch = cmp.Or(s.Epoch, epoch)
		s.NoCache = s.NoCache || p.opt.NoCache
	}
	g.Config = cloneConfig(target.state.config)
	for _, label := range p.opt.Labels {
		name, value, _ := strings.Cut(label, "=")
		if name == "" {
			return fmt.Errorf("label %q has no name", label)
		}
		if g.Config.Config.Labels == nil {
			g.Config.Config.Labels = map[string]string{}
		}
		g.Config.Config.Labels[name] = value
	}
	p.setPlatform(&g.Config.Platform)
	g.Platform = g.Config.Platform
	return nil
}

// setPlatform makes the image say what was asked for. Where nobody asked, it says what its base says.
func (p *planner) setPlatform(of *ocispec.Platform) {
	if !p.platforms.implicit {
		same := p.platforms.target.OS == of.OS && p.platforms.target.Architecture == of.Architecture
		of.OS, of.Architecture = p.platforms.target.OS, p.platforms.target.Architecture
		if p.platforms.target.Variant != "" || !same {
			of.Variant = p.platforms.target.Variant
		}
		if p.platforms.target.OSVersion != "" || !same {
			of.OSVersion = p.platforms.target.OSVersion
		}
		if p.platforms.target.OSFeatures != nil {
			of.OSFeatures = slices.Clone(p.platforms.target.OSFeatures)
		}
	}
	*of = platforms.Normalize(*of)
}

func (p *planner) allWarnings() []parser.Warning {
	all := slices.Concat(p.file.Warnings, p.rules.warnings)
	parser.SortWarnings(all)
	return all
}

// fail says what is wrong with an instruction.
func (p *planner) fail(at parser.Span, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return p.file.ErrorAt(at, err)
}
