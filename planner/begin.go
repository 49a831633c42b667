package planner

import (
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

const (
	// defaultPath is the PATH of an image that has none.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

	historyComment = "buildkit.dockerfile.v0"
	// layerComment marks history that accounts for layers nobody wrote any for.
	layerComment = "buildkit.exporter.image.v0"
)

// begin gives a stage the state that it begins with: that of another stage, an image, a context, or nothing.
func (p *planner) begin(s *stage) {
	s.state.vars = &variables{escape: p.file.Escape}
	switch {
	case s.parent != nil:
		p.inherit(s)
	case s.image != nil:
		p.beginWithImage(s)
	case s.context != nil && s.context.Graph != nil:
		p.beginWithGraph(s, s.context.Graph)
	default:
		s.state.config = emptyConfig(p.platforms.target)
		if s.context == nil {
			s.platform = &p.platforms.target // FROM --platform of nothing is nothing
		} else if s.context.Tree {
			s.state.fs.context = s.context
		}
	}
	if s.platform == nil {
		s.platform = &p.platforms.target
	}
	if s.kind != declared {
		return
	}
	if s.state.fs.context != nil {
		p.copyContext(s)
	}
	c := &s.state.config.Config
	if !hasVariable(c.Env, "PATH") {
		c.Env = append(c.Env, "PATH="+defaultPath)
	}
	s.state.vars.setList(c.Env)
	p.expandedBytes += 10 * (len(s.state.vars.names) + len(s.state.args) + len(c.ExposedPorts) + len(c.Labels) + len(c.Volumes)) // have been copied
	if c.WorkingDir != "" {
		c.WorkingDir = join(c.WorkingDir, c.WorkingDir)
	}
}

// inherit begins with what another stage ended with. A stage that is stood in for by another is that other one.
func (p *planner) inherit(s *stage) {
	from := s.parent
	s.state.fs, s.platform = from.state.fs, from.platform
	s.state.config = cloneConfig(from.state.config)
	p.expandedBytes += len(s.state.config.History) * 100 // bytes, about: a thousand stages on top of each other have a million entries
	if s.kind == declared {
		s.state.config.Config.OnBuild = nil // they have become commands
	}
	s.state.vars = from.state.vars.clone()
	s.state.args = slices.Clone(from.state.args)
	s.state.workdirSet = from.state.workdirSet
}

func (p *planner) beginWithImage(s *stage) {
	s.state.config = cloneConfig(s.image.Config)
	s.state.config.Created = nil
	s.state.config.RootFS = ocispec.RootFS{Type: "layers"}
	s.state.config.History = layerHistory(s.state.config.History, len(s.image.Layers()))
	if s.kind != declared {
		if s.state.config.OS != "" && s.state.config.Architecture != "" {
			s.platform = &s.state.config.Platform
		}
	} else {
		s.state.config.Config.OnBuild = nil // they have become commands
	}
	if s.platform == nil {
		s.platform = &p.platforms.target
	}
	ref := s.imageName()
	if len(s.image.Layers()) == 0 {
		return // the empty file system
	}
	s.state.fs.step = p.addStep(s, Step{
		Op: &Base{Ref: ref, Image: s.image}, Name: "FROM " + ref, Span: s.decl.Span, Around: p.around(s, slices.Clone(s.state.config.Config.Env)),
	})
}

// beginWithGraph begins with what another plan makes, as with an image that is there already.
func (p *planner) beginWithGraph(s *stage, g *Graph) {
	same := p.steps.take(g)
	if g.Result != nil {
		s.state.fs.step = same[g.Result.Index]
	}
	s.state.config = cloneConfig(g.Config)
	s.state.config.Created = nil
	if s.platform == nil {
		s.platform = &p.platforms.target
	}
	if s.kind == declared {
		s.state.config.Config.OnBuild = nil // they have become commands
	} else {
		s.platform = &s.state.config.Platform
	}
}

// layerHistory makes history account for n layers, one entry each: too many lose their layers from the top, too few
// get entries that say nothing.
func layerHistory(history []ocispec.History, n int) []ocispec.History {
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		if n == 0 {
			history[i].EmptyLayer = true
			continue
		}
		n--
	}
	for ; n > 0; n-- {
		history = append(history, ocispec.History{Comment: layerComment})
	}
	return history
}

// copyContext begins a stage with a context's files, which is a layer.
func (p *planner) copyContext(s *stage) {
	name := s.state.fs.context.name
	s.state.fs = tree{step: p.addStep(s, Step{
		Op: &Copy{
			From:    p.outside(name),
			Sources: []Source{{Path: "/"}},
			Dest:    "/",
		},
		Name: "FROM " + name, Span: s.decl.Span, Around: p.around(s, slices.Clone(s.state.config.Config.Env)),
	})}
	s.state.config.History = append(s.state.config.History, ocispec.History{CreatedBy: "local source for " + name, Comment: layerComment})
}

// standOn is the step whose file system a stage ends with, for others to stand on; nil is the empty one.
func (p *planner) standOn(s *stage) *Step {
	if s.state.fs.context != nil {
		p.copyContext(s)
	}
	return s.state.fs.step
}

// outside is a build context as an input.
func (p *planner) outside(name string) Input {
	if tree, ok := p.opt.Trees[name]; ok {
		name = tree
	}
	return Input{Read: -1, Context: name}
}

// read makes the file system that a stage ends with one of a step's inputs.
func (p *planner) read(reads *[]*Step, s *stage) Input {
	if s.state.fs.context != nil {
		return p.outside(s.state.fs.context.name)
	}
	step := s.state.fs.step
	if step == nil { // an image without layers, so that whoever reads it meets nothing new
		step = p.addStep(s, Step{
			Op: &Base{Ref: scratch, Image: &image.Image{}}, Name: "FROM scratch", Span: s.decl.Span,
		})
	}
	i := slices.Index(*reads, step)
	if i < 0 {
		i = len(*reads)
		*reads = append(*reads, step)
	}
	return Input{Read: i}
}

// emptyConfig is the configuration of FROM scratch.
func emptyConfig(platform ocispec.Platform) image.Config {
	var c image.Config
	c.Platform = platform
	c.OSFeatures = slices.Clone(platform.OSFeatures)
	c.RootFS.Type = "layers"
	c.Config.WorkingDir = "/"
	c.Config.Env = []string{"PATH=" + defaultPath}
	return c
}

// cloneConfig copies a configuration so that nothing written to the copy is seen in the original.
func cloneConfig(c image.Config) image.Config {
	c.OSFeatures = slices.Clone(c.OSFeatures)
	c.History = slices.Clone(c.History)
	c.RootFS.DiffIDs = slices.Clone(c.RootFS.DiffIDs)
	in := &c.Config
	in.Env, in.Cmd, in.Entrypoint = slices.Clone(in.Env), slices.Clone(in.Cmd), slices.Clone(in.Entrypoint)
	in.OnBuild, in.Shell = slices.Clone(in.OnBuild), slices.Clone(in.Shell)
	in.ExposedPorts, in.Volumes, in.Labels = maps.Clone(in.ExposedPorts), maps.Clone(in.Volumes), maps.Clone(in.Labels)
	if in.Healthcheck != nil {
		h := *in.Healthcheck
		h.Test = slices.Clone(h.Test)
		in.Healthcheck = &h
	}
	return c
}
