package forge

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/executor/local"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
)

// BreakOptions say where a build stops, so that somebody can look around there.
type BreakOptions struct {
	BreakOnFailure bool   // where a step fails
	At             string // at a step, see findStop; "" is none. It includes BreakOnFailure
}

// stops reports whether there is anything to stop for.
func (o *BreakOptions) stops() bool { return o.BreakOnFailure || o.At != "" }

// CheckShell says why no shell can be given where RUN is isolated in a way, as the options say it; nil if one can.
func CheckShell(how string) error { return checkShell(isolation(how)) }

func checkShell(wish runtime.Isolation) error {
	how, why, err := runtime.FindIsolation(wish)
	if err == nil && how == runtime.ByChroot {
		err = fmt.Errorf("a shell takes namespaces, and RUN is isolated by chroot: %s", why)
	}
	return err
}

// A Terminal is one that a shell gets: its name (TERM) and size.
type Terminal = container.Terminal

// A Stopped is where a build has stopped. Nothing that happens there gets into the cache or an image. Close it before the Home. One
// goroutine at a time may call its methods.
type Stopped struct {
	Step  *event.Step
	Place string // "before", "after", or "" where it failed
	File  string // the build file, "" if it is no file of this machine

	job    *executor.Job // of a RUN; nil if there is nothing to stand in
	stand  *local.Stand  // opened when it is needed
	worker *local.Worker
	open   closers.Stack
}

// Close gives back what the build has left open.
func (s *Stopped) Close() error { return s.open.Close() }

// enter opens the container, unless it is open.
func (s *Stopped) enter(ctx context.Context) (err error) {
	if s.stand != nil {
		return nil
	}
	if s.job == nil {
		return fmt.Errorf("step %d has not begun: what it reads is missing; --shell-at before:%[1]d stands where it would begin", s.Step.Number)
	}
	if s.stand, err = s.worker.Stand(ctx, *s.job); err != nil {
		return err
	}
	s.open.Push(s.stand.Close)
	return nil
}

// Shell starts a shell where the build has stopped, in what the step has: file system, mounts, secrets, environment, user, network, limits,
// directory. It can be called again when that has ended, and finds what the one before has left.
func (s *Stopped) Shell(ctx context.Context, t Terminal, stdio Stdio) (*Exec, error) {
	if err := checkShell(s.worker.Containers.Isolation); err != nil {
		return nil, err
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	toolbox, err := busybox()
	if err != nil {
		return nil, err
	}
	p, err := s.stand.Shell(ctx, t, toolbox, stdio)
	if err != nil {
		return nil, err
	}
	return &Exec{Process: p, event: func(string, ...string) {}}, nil
}

// stopped is where an error has stopped the build, nil if it is not of a step, or nobody wants to look. A lost layer stops nothing: it
// is made again.
func (o *BuildOptions) stopped(g *planner.Graph, worker *local.Worker, err error) *Stopped {
	failure, ok := errors.AsType[*executor.StepError](err)
	if !ok || !o.stops() || isLost(err) {
		return nil
	}
	s := newStopped(g, failure.Step, worker)
	if failure.Job == nil || failure.Step.Around == nil {
		return s
	}
	job := *failure.Job
	if s.stand = worker.Failed(job); s.stand != nil {
		s.open.Push(s.stand.Close)
	}
	if failure.Step.Op != failure.Step.Around { // of a COPY: what a RUN in its place would have
		job = executor.Job{Op: failure.Step.Around, On: job.On, Epoch: job.Epoch}
	}
	s.job = &job
	return s
}

func newStopped(g *planner.Graph, step *planner.Step, worker *local.Worker) *Stopped {
	s := &Stopped{Step: executor.Steps(g)[step.Index], worker: worker}
	s.open.Push(func() error { return closeWorkers([]*local.Worker{worker}) })
	if info, err := os.Stat(step.Span.File); err == nil && info.Mode().IsRegular() {
		s.File = step.Span.File
	}
	return s
}

// stopAt does the steps up to the one that the options name. If one of them fails, that is where the build has stopped.
func (h *Home) stopAt(ctx context.Context, o BuildOptions, g *planner.Graph, worker *local.Worker, bases *resolver) (*Stopped, error) {
	place, err := findStop(g, o.At)
	if err != nil {
		return nil, err
	}
	job, err := executor.Reach(ctx, g, place, h.executorOptions(o, worker.Inputs, bases, worker))
	if err != nil {
		return o.stopped(g, worker, err), err
	}
	s := newStopped(g, place.Step, worker)
	s.Place, s.job = "before", &job
	if place.After {
		s.Place = "after"
	}
	err = s.enter(ctx)
	if isLost(err) {
		return nil, err
	}
	if err != nil {
		return s, fmt.Errorf("%s: %s: %w", place.Step.Span, place.Step.Name, err)
	}
	return s, nil
}

// isLost reports whether an error is about a layer that a cache has answered with and that cannot be had.
func isLost(err error) bool {
	_, lost := errors.AsType[*remote.LostError](err)
	return lost
}

// findStop finds the step that a user names: [before:|after:]STEP, where STEP is its number, the name of a stage (its last step) or
// [FILE]:LINE of the build file. Without a word it is before a step, and after a stage.
func findStop(g *planner.Graph, at string) (p executor.Place, err error) {
	name, word := at, ""
	for _, w := range []string{"before", "after"} {
		if rest, ok := strings.CutPrefix(at, w+":"); ok {
			name, word = rest, w
		}
	}
	planned := executor.Planned(g)
	found, after := stepsNamed(planned, name)
	p.After = word == "after" || word == "" && after
	switch len(found) {
	case 0:
		return p, fmt.Errorf("--shell-at %s: no step of this build is that; forge build --plan lists them", at)
	case 1:
		p.Step = g.Steps[found[0].Number-1]
	default:
		return p, fmt.Errorf("--shell-at %s: steps %s are that: name one by its number", at, numbers(found))
	}
	if p.Step.Around == nil {
		return p, fmt.Errorf("--shell-at %s: there is nothing in %s", at, p.Step.Name)
	}
	if _, ok := p.Step.Op.(*planner.Base); ok && !p.After {
		return p, fmt.Errorf("--shell-at %s: there is nothing before %s; say after:%s", at, p.Step.Name, name)
	}
	return p, nil
}

// stepsNamed are the steps that have a name: a number, that of a stage, whose last one is meant, or [FILE]:LINE. There may be one for each platform. It reports
// whether the name is a stage's.
func stepsNamed(planned []event.Event, name string) (found []*event.Step, stage bool) {
	number, notNumber := strconv.Atoi(name)
	file, text, isPlace := cutLast(name, ":")
	line, notLine := strconv.Atoi(text)
	last := map[string]*event.Step{} // of a stage, by platform
	for _, e := range planned {
		s, at := e.Step, e.Source
		switch {
		case notNumber == nil:
			if s.Number == number {
				found = append(found, s)
			}
		case isPlace:
			if notLine == nil && at.Line <= line && line <= max(at.Line, at.End) && sameFile(at.File, file) {
				found = append(found, s)
			}
		case strings.EqualFold(s.Stage, name):
			last[s.Platform+s.Target] = s
		}
	}
	for _, s := range last {
		found = append(found, s)
	}
	slices.SortFunc(found, func(a, b *event.Step) int { return a.Number - b.Number })
	return found, len(last) > 0
}

// cutLast cuts around the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// sameFile reports whether a name, which may be left out or be only the last part, is that of a file.
func sameFile(file, name string) bool {
	return name == "" || name == file || name == filepath.Base(file)
}

func numbers(steps []*event.Step) string {
	var list []string
	for _, s := range steps {
		list = append(list, fmt.Sprintf("#%d", s.Number))
	}
	return strings.Join(list, ", ")
}

// busybox is a busybox of this machine that runs in any container: FORGE_BUSYBOX, or that of PATH if it is linked statically. It is "" if
// there is none.
func busybox() (string, error) {
	if path := os.Getenv("FORGE_BUSYBOX"); path != "" {
		if !isStatic(path) {
			return "", fmt.Errorf("FORGE_BUSYBOX: %s is not a program of this machine that is linked statically", path)
		}
		return path, nil
	}
	path, err := exec.LookPath("busybox")
	if err != nil || !isStatic(path) {
		return "", nil //nolint:nilerr // the image may have a shell
	}
	return path, nil
}

// isStatic reports whether a program needs no other file: it names no interpreter.
func isStatic(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Type != elf.ET_REL && !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}
