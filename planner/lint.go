package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
)

// A rule is a lint rule that BuildKit does not have.
type rule = linter.LinterRule[func(string, string) string]

// lintIgnoredPlatform warns of a --platform that does nothing, because the FROM names a stage.
func (s *stage) lintIgnoredPlatform(lint *linter.Linter) {
	r := rule{
		Name: "FromPlatformIgnored", Description: "FROM --platform has no effect where FROM names a stage",
		Format: func(platform, stage string) string {
			return fmt.Sprintf("--platform=%s is ignored: %q is a stage, and has its platform from its own FROM", platform, stage)
		},
	}
	lint.Run(&r, s.decl.Location, r.Format(s.decl.Platform, s.decl.BaseName))
}

// lintShadow warns of a default that takes the place of what a build says by itself, such as TARGETARCH.
func (p *planner) lintShadow(lint *linter.Linter, a instructions.KeyValuePairOptional, at []bk.Range) {
	if _, given := p.opt.BuildArgs[a.Key]; given || a.Value == nil || !slices.Contains(p.platformArgs().Keys(), a.Key) {
		return
	}
	r := rule{
		Name: "AutomaticArgShadowed", Description: "A default value takes the place of what the build sets by itself",
		Format: func(name, value string) string {
			return fmt.Sprintf("ARG %s=%s takes the place of the value that the build sets: write ARG %s to have that", name, value, name)
		},
	}
	lint.Run(&r, at, r.Format(a.Key, *a.Value))
}

// lintGlobals applies the rules about ARGs before the first FROM.
func (p *planner) lintGlobals() {
	for _, in := range p.file.Args {
		for _, a := range in.Command.(*instructions.ArgCommand).Args {
			p.lintShadow(p.rules.lint, a, in.Command.Location())
		}
	}
}

// unusedArgs are the command line's arguments that no ARG of the file, nor of what its base images trigger, declares.
func (p *planner) unusedArgs() (names []string) {
	declared := map[string]bool{EpochName: true}
	for _, name := range p.platformArgs().Keys() {
		declared[name] = true
	}
	declare := func(c instructions.Command) {
		if arg, ok := c.(*instructions.ArgCommand); ok {
			for _, a := range arg.Args {
				declared[a.Key] = true
			}
		}
	}
	for _, in := range p.file.Args {
		declare(in.Command)
	}
	for i := range p.file.Stages {
		for _, in := range p.file.Stages[i].Instructions {
			declare(in.Command)
		}
	}
	for _, s := range p.stages {
		for name := range s.state.outline.args {
			declared[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.opt.BuildArgs)) {
		if !declared[name] && !strings.HasPrefix(name, "BUILDKIT_") && !isProxy(name) {
			names = append(names, name)
		}
	}
	return names
}

func isProxy(name string) bool {
	switch strings.ToLower(name) {
	case "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy":
		return true
	}
	return false
}
