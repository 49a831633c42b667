package planner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/parser"
)

// ready reports whether a stage can be read from: it has been planned, or is one that no FROM names and is planned now.
func (p *planner) ready(s *stage) (bool, error) {
	if s.kind == external && s.done < planned {
		return true, p.planStage(context.Background(), s) // which has no instructions
	}
	return s.done == planned, nil
}

// planStage goes through a stage's instructions and leaves it in the state it ends with.
func (p *planner) planStage(ctx context.Context, s *stage) error {
	if s.parent != nil && s.parent.done < planned {
		return p.fail(s.decl.Span, fmt.Errorf("stage %q needs to be defined before stage %q, which stands for it",
			s.parent.label, s.label))
	}
	p.begin(s)
	if err := p.spend(0); err != nil {
		return p.fail(s.decl.Span, err)
	}
	for _, c := range s.commands {
		if err := ctx.Err(); err != nil {
			return err
		}
		w := &walker{p: p, stage: s, state: &s.state, at: c.Span, lint: p.rules.lint.WithMergedConfigFromComments(c.Comments())}
		err := w.instruction(c)
		if err == nil {
			err = p.spend(0)
		}
		if err != nil {
			return p.fail(c.Span, err)
		}
	}
	s.done = planned
	return nil
}

// A walker is at one instruction of one stage.
type walker struct {
	p     *planner
	stage *stage
	state *stageState // of stage
	at    parser.Span
	lint  *linter.Linter // with what the comments above the instruction say
	words int            // bytes that its words have come to
}

// instruction expands an instruction with the state before it, and then makes the state after it.
func (w *walker) instruction(c command) error {
	if err := w.expand(c.typed); err != nil {
		return err
	}
	switch t := c.typed.(type) {
	case *instructions.MaintainerCommand:
		w.state.config.Author = t.Maintainer
		w.remember(fmt.Sprintf("MAINTAINER %v", t.Maintainer))
	case *instructions.EnvCommand:
		return w.setEnv(t)
	case *instructions.RunCommand:
		return w.run(t, c.sources)
	case *instructions.WorkdirCommand:
		w.workdir(t)
	case *instructions.AddCommand:
		return w.add(t)
	case *instructions.CopyCommand:
		return w.copyFrom(t, c.sources)
	case *instructions.LabelCommand:
		w.label(t)
	case *instructions.OnbuildCommand:
		w.state.config.Config.OnBuild = append(w.state.config.Config.OnBuild, t.Expression)
	case *instructions.CmdCommand:
		w.setCmd(t)
	case *instructions.EntrypointCommand:
		w.setEntrypoint(t)
	case *instructions.HealthCheckCommand:
		w.setHealthcheck(t)
	case *instructions.ExposeCommand:
		return w.expose(t)
	case *instructions.UserCommand:
		w.state.config.Config.User = t.User
		w.remember(fmt.Sprintf("USER %v", t.User))
	case *instructions.VolumeCommand:
		return w.volume(t)
	case *instructions.StopSignalCommand:
		return w.stopSignal(t)
	case *instructions.ShellCommand:
		w.state.config.Config.Shell = t.Shell
		w.remember(fmt.Sprintf("SHELL %v", t.Shell))
	case *instructions.ArgCommand:
		return w.declareArgs(t)
	default:
		return fmt.Errorf("%s is not known here", strings.ToUpper(c.Name()))
	}
	return nil
}

// expand replaces variables where the instruction's type says so. ARG is left to itself: its default does not matter
// where the command line gives a value.
func (w *walker) expand(typed instructions.Command) error {
	if _, ok := typed.(*instructions.ArgCommand); ok {
		return nil
	}
	if t, ok := typed.(instructions.SupportsSingleWordExpansion); ok {
		expand := func(word string) (string, error) { return w.word(w.p.lex, typed, word) }
		if err := t.Expand(expand); err != nil {
			return err
		}
	}
	if t, ok := typed.(instructions.SupportsSingleWordExpansionRaw); ok {
		lex := shell.NewLex('\\') // whatever the file's escape character: bodies of heredocs have one of their own
		lex.SkipProcessQuotes = true
		return t.ExpandRaw(func(word string) (string, error) { return w.word(lex, typed, word) })
	}
	return nil
}

// word expands one word.
func (w *walker) word(lex *shell.Lex, typed instructions.Command, word string) (string, error) {
	if !strings.ContainsAny(word, "$\\`'\"<") {
		return word, nil // the lexer would give it back
	}
	result, err := w.state.vars.expand(lex, word)
	w.lintUndefined(typed.Location(), result.Unmatched)
	if w.words += len(result.Result); err == nil && w.words > maxWord {
		err = fmt.Errorf("the words expand to more than %d MiB", maxWord>>20)
	}
	return result.Result, err
}

// lintUndefined applies the rule about variables that are used and not defined. A declared ARG without a value is not
// one.
func (w *walker) lintUndefined(at []bk.Range, unmatched map[string]struct{}) {
	for _, a := range w.state.args {
		delete(unmatched, a.Key)
	}
	for _, name := range sortedKeys(unmatched) {
		if isScanArg(name) {
			continue
		}
		w.lint.Run(&linter.RuleUndefinedVar, at, linter.RuleUndefinedVar.Format(name, parser.Nearest(name, w.state.vars.Keys())))
	}
}

// isScanArg reports whether an ARG speaks to scanners of BuildKit's and never reaches an environment.
func isScanArg(name string) bool {
	return name == "BUILDKIT_SBOM_SCAN_CONTEXT" || name == "BUILDKIT_SBOM_SCAN_STAGE"
}

// remember adds to the history an instruction that makes no layer.
func (w *walker) remember(createdBy string) {
	w.p.expandedBytes += len(createdBy)
	w.state.config.History = append(w.state.config.History, ocispec.History{
		CreatedBy: createdBy, Comment: historyComment, EmptyLayer: true,
	})
}

// do adds a step, on top of what the stage has, and its history.
func (w *walker) do(op Op, reads []*Step, name, createdBy string) {
	w.state.fs.step = w.p.addStep(w.stage, Step{
		Op: op, On: w.state.fs.step, Reads: reads, Name: name, Span: w.at, NoCache: w.p.noCache(w.stage), Around: w.around(op),
	})
	w.state.config.History = append(w.state.config.History, ocispec.History{CreatedBy: createdBy, Comment: historyComment})
	w.p.expandedBytes += len(name) + len(createdBy)
}

// around is what a RUN in the place of op is given.
func (w *walker) around(op Op) *Run {
	if run, ok := op.(*Run); ok {
		return run
	}
	return w.p.around(w.stage, w.env())
}

// env is the environment of a step, one for all steps until it changes.
func (w *walker) env() []string {
	if w.state.vars.listed == nil {
		w.p.expandedBytes += 4 * len(w.state.vars.names) // thousands of variables, each set before a step of its own
	}
	return w.state.vars.list()
}

// around is what a RUN of a stage is given, besides its command.
func (p *planner) around(s *stage, env []string) *Run {
	return &Run{
		Env: env, Proxy: p.proxy, Dir: s.workingDir(), User: s.state.config.Config.User,
		Network: cmp.Or(p.opt.Network, instructions.NetworkDefault), Platform: platforms.Format(*s.platform),
		Hostname: p.opt.BuildArgs["BUILDKIT_SANDBOX_HOSTNAME"],
	}
}

// nameOf is an instruction for people: in one line, its name in capitals, with the values of variables.
func (w *walker) nameOf(lex *shell.Lex, text string, vars *variables) string {
	if vars.bound(lex, text) == nil {
		if word, _, err := lex.ProcessWord(text, vars); err == nil {
			text = word
		}
	}
	name, rest, found := strings.Cut(text, " ")
	if !found {
		return strings.ToUpper(name)
	}
	return strings.ToUpper(name) + " " + rest
}

// workdir makes a directory at once, as BuildKit does; the root is there already.
func (w *walker) workdir(t *instructions.WorkdirCommand) {
	if !w.state.workdirSet && !path.IsAbs(t.Path) {
		w.lint.Run(&linter.RuleWorkdirRelativePath, t.Location(), linter.RuleWorkdirRelativePath.Format(t.Path))
	}
	w.state.workdirSet = true
	dir := join(w.state.config.Config.WorkingDir, t.Path)
	w.state.config.Config.WorkingDir = dir
	if dir == "/" {
		w.remember("WORKDIR " + dir)
		return
	}
	name := w.nameOf(w.p.lex, t.String(), w.state.vars)
	w.do(&Mkdir{Path: path.Clean(dir), User: w.state.config.Config.User}, nil, name, "WORKDIR "+dir)
}

// join makes a path absolute, from a directory that is "/" if it is empty.
func join(dir, name string) string {
	if !path.IsAbs(dir) {
		dir = path.Join("/", dir)
	}
	switch {
	case name == "":
		return dir
	case !path.IsAbs(name):
		return path.Join(dir, name)
	}
	return name
}

// joinDest is join for a destination: what says at its end that it is a directory ("/" or "/.") still says so.
func joinDest(dir, given string) string {
	name := join(dir, given)
	switch {
	case given == name:
	case strings.HasSuffix(given, "/") && !strings.HasSuffix(name, "/"):
		name += "/"
	case strings.HasSuffix(given, "/."):
		name = strings.TrimSuffix(name, "/") + "/."
	}
	return name
}

// workingDir is where a RUN stands and relative paths begin.
func (s *stage) workingDir() string {
	if s.state.config.Config.WorkingDir == "" {
		return "/"
	}
	return path.Clean(s.state.config.Config.WorkingDir)
}

var errEmptyVolume = errors.New("VOLUME specified can not be an empty string")

func (w *walker) volume(t *instructions.VolumeCommand) error {
	if w.state.config.Config.Volumes == nil {
		w.state.config.Config.Volumes = map[string]struct{}{}
	}
	for _, v := range t.Volumes {
		if v == "" {
			return errEmptyVolume
		}
		w.state.config.Config.Volumes[v] = struct{}{}
	}
	w.remember(fmt.Sprintf("VOLUME %v", t.Volumes))
	return nil
}
