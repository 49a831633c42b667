package planner

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
)

// EpochName is the argument that says how old all of an image is.
const EpochName = "SOURCE_DATE_EPOCH"

// platformArgs are the variables that are there before any ARG. Each can be replaced from the command line.
func (p *planner) platformArgs() *variables {
	stage := p.opt.Target
	if stage == "" {
		stage = p.file.Stages[len(p.file.Stages)-1].Name
	}
	if stage == "" {
		stage = "default"
	}
	v := &variables{escape: p.file.Escape}
	for _, kv := range [...][2]string{
		{"BUILDPLATFORM", platforms.Format(p.platforms.build)},
		{"BUILDOS", p.platforms.build.OS},
		{"BUILDOSVERSION", p.platforms.build.OSVersion},
		{"BUILDARCH", p.platforms.build.Architecture},
		{"BUILDVARIANT", p.platforms.build.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(p.platforms.target)},
		{"TARGETOS", p.platforms.target.OS},
		{"TARGETOSVERSION", p.platforms.target.OSVersion},
		{"TARGETARCH", p.platforms.target.Architecture},
		{"TARGETVARIANT", p.platforms.target.Variant},
		{"TARGETSTAGE", stage},
	} {
		value := kv[1]
		if given, ok := p.opt.BuildArgs[kv[0]]; ok {
			value = given
		}
		v.set(kv[0], value)
	}
	return v
}

// setGlobals reads the ARGs before the first FROM.
func (p *planner) setGlobals(ctx context.Context) error {
	p.global.vars = p.platformArgs()
	if err := p.readGlobals(p.global.vars, p.opt.BuildArgs, p.global.outline.args); err != nil {
		return err
	}
	epoch, err := p.epoch(ctx)
	if err != nil {
		return err
	}
	_, given := p.opt.BuildArgs[EpochName]
	declared, _ := p.global.vars.Get(EpochName)
	if given {
		p.opt.BuildArgs = maps.Clone(p.opt.BuildArgs)
		if epoch == nil { // the same as not given
			delete(p.opt.BuildArgs, EpochName)
		} else {
			p.opt.BuildArgs[EpochName] = strconv.FormatInt(epoch.Unix(), 10)
		}
	}
	switch { // an ARG of that name sees the number
	case epoch == nil && (given || declared != ""):
		p.global.vars.remove(EpochName)
	case epoch != nil && declared != "":
		p.global.vars.set(EpochName, strconv.FormatInt(epoch.Unix(), 10))
	}
	return nil
}

// readGlobals adds the file's global ARGs to vars, given taking the place of defaults, and notes each in args.
func (p *planner) readGlobals(vars *variables, given map[string]string, args map[string]argument) error {
	for _, in := range p.file.Args {
		for _, kv := range in.Command.(*instructions.ArgCommand).Args {
			a := argument{Parameter: Parameter{Name: kv.Key, Description: kv.DocComment, Location: Location(in.Span)}}
			value, ok := given[kv.Key]
			if !ok && kv.Value != nil {
				word, err := vars.expand(p.lex, *kv.Value)
				if err == nil {
					err = cmp.Or(checkValue(kv.Key, word.Result), p.spend(len(word.Result)))
				}
				if err != nil {
					return p.fail(in.Span, err)
				}
				value, ok = word.Result, true
				a.uses = maps.Clone(word.Matched)
				if _, itself := a.uses[kv.Key]; itself {
					delete(a.uses, kv.Key)
					maps.Copy(a.uses, args[kv.Key].uses)
				}
			}
			if ok {
				vars.set(kv.Key, value)
				a.Value = value
			}
			args[kv.Key] = a
		}
	}
	return nil
}

// epoch is the time that the build gives to everything, if it is asked to.
func (p *planner) epoch(ctx context.Context) (*time.Time, error) {
	value, given := p.opt.BuildArgs[EpochName]
	at := p.file.Stages[0].Span
	if !given {
		value, _ = p.global.vars.Get(EpochName)
		if a, ok := p.global.outline.args[EpochName]; ok {
			at = parser.Span(a.Location)
		}
	}
	switch {
	case value == "", value == "context" && p.opt.ContextTime == nil:
		return nil, nil
	case value == "context":
		return p.opt.ContextTime(ctx)
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return nil, p.fail(at, fmt.Errorf("invalid SOURCE_DATE_EPOCH: %s is neither a number of seconds nor \"context\"", value))
	}
	t := time.Unix(seconds, 0).UTC()
	return &t, nil
}

// checkDefaultBases applies the rule that a FROM names an image even if nobody gives its args.
func (p *planner) checkDefaultBases() {
	vars := p.platformArgs()
	if p.readGlobals(vars, nil, map[string]argument{}) != nil {
		return // planning meets the same error
	}
	for i := range p.file.Stages {
		s := &p.file.Stages[i]
		word, err := vars.expand(p.lex, s.BaseName)
		if err != nil {
			return
		}
		if _, err := image.ParseReference(word.Result); err != nil && !namesStage(p.file.Stages[:i], word.Result) {
			p.rules.lint.Run(&linter.RuleInvalidDefaultArgInFrom, s.Location, linter.RuleInvalidDefaultArgInFrom.Format(s.BaseName))
		}
	}
}
