package forge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// A Change says of a target whether it has changed.
type Change struct {
	Target string // its name
	Why    string // what has changed, for people; "" if nothing has
}

// Affected says of targets which of them read something that differs between a git revision and the working tree: a file of their contexts
// that a step selects, the build file, the ignore file, a file that defines the target (Definitions), and all that of the targets that
// they are made from. A target whose context is no directory of this machine counts as changed, since git cannot say. It plans, and does
// nothing. The answers have the order of the targets.
func (h *Home) Affected(ctx context.Context, targets []Target, revision string) (changes []Change, err error) {
	if err := checkTargets(targets); err != nil {
		return nil, err
	}
	b := h.newBuilding(targets)
	var open closers.Stack
	defer func() { err = errors.Join(err, open.Close()) }()
	for _, t := range b.targets {
		t.Events, t.Outputs = nil, []Output{{Type: "cacheonly"}}
		t.Cache, t.CacheOptions.From, t.To = "none", nil, nil
		if err := t.prepare(ctx); err != nil {
			return nil, b.named(t, err)
		}
	}
	if err := b.open(ctx, &open); err != nil {
		return nil, err
	}
	if err := b.plan(ctx); err != nil {
		return nil, err
	}
	inputs, err := h.inputs(b)
	if err != nil {
		return nil, err
	}
	open.Push(inputs.Layers.Close)
	repositories := repositories{revision: revision, changed: map[string][]string{}}
	dirs := b.dirs()
	own := map[string]string{}
	for _, t := range b.targets {
		if own[t.Name], err = repositories.whyFiles(ctx, t); err == nil && own[t.Name] == "" {
			own[t.Name], err = repositories.whySteps(ctx, t, inputs, dirs)
		}
		if err != nil {
			return nil, b.named(t, err)
		}
	}
	by, known := b.byName(), map[string]string{}
	for _, t := range b.targets {
		changes = append(changes, Change{t.Name, t.whyMade(by, own, known)})
	}
	return changes, nil
}

// whyMade is why a target has changed, itself or what it is made from. known has what was found out before.
func (t *making) whyMade(by map[string]*making, own, known map[string]string) string {
	if why, ok := known[t.Name]; ok {
		return why
	}
	why := own[t.Name]
	for _, name := range slices.Sorted(maps.Keys(t.From)) {
		from := t.From[name]
		if why != "" {
			break
		}
		if why = by[from].whyMade(by, own, known); why != "" {
			why = "is made from " + from + ", of which " + why
		}
	}
	known[t.Name] = why
	return why
}

// dirs are the directories of the build's contexts, by the names that the plan has for them.
func (b *building) dirs() map[string]string {
	dirs := map[string]string{}
	for _, t := range b.targets {
		for name, dir := range t.src.Dirs() {
			dirs[b.shared.Name(t.src.Trees[name])] = dir
		}
	}
	return dirs
}

// repositories are those of git that contexts lie in.
type repositories struct {
	revision string
	changed  map[string][]string // by the root of each: absolute paths of files that differ
}

// whyFiles looks at the files that a target is described by.
func (r *repositories) whyFiles(ctx context.Context, t *making) (string, error) {
	if source.IsRemote(t.Context) {
		return "its context is no directory of this machine", nil
	}
	for _, file := range append([]string{t.src.BuildFile(), t.src.IgnoreFile()}, t.Definitions...) {
		if file == "" {
			continue
		}
		abs, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		changed, err := r.in(ctx, filepath.Dir(abs))
		if err != nil {
			return "", err
		}
		if resolved, err := filepath.EvalSymlinks(abs); err == nil && slices.Contains(changed, resolved) || slices.Contains(changed, abs) {
			return file + " has changed", nil
		}
	}
	return "", nil
}

// whySteps looks at the files that the steps of a target read.
func (r *repositories) whySteps(ctx context.Context, t *making, inputs *source.Resolver, dirs map[string]string) (string, error) {
	for _, s := range t.graphs[0].Steps {
		if !slices.Contains(s.For, t.Name) {
			continue
		}
		for _, from := range contextsOf(s.Op) {
			dir, ok := dirs[from.context]
			if !ok {
				return "a context of " + s.Name + " is no directory of this machine", nil
			}
			changed, err := r.in(ctx, dir)
			if err != nil {
				return "", err
			}
			if resolved, err := filepath.EvalSymlinks(dir); err == nil {
				dir = resolved
			}
			var inside []string
			for _, file := range changed {
				if rel, err := filepath.Rel(dir, file); err == nil && filepath.IsLocal(rel) {
					inside = append(inside, filepath.ToSlash(rel))
				}
			}
			file, err := inputs.Touched(ctx, s.Op, from.input, inside)
			if err != nil {
				return "", fmt.Errorf("%s: %w", s.Name, err)
			}
			if file != "" {
				return file + " has changed, which " + shortName(s.Name) + " reads", nil
			}
		}
	}
	return "", nil
}

// shortName is a step's name in one line that is not long.
func shortName(name string) string {
	const most = 60
	name = strings.Join(strings.Fields(name), " ")
	if r := []rune(name); len(r) > most {
		return string(r[:most]) + "…"
	}
	return name
}

// A contextInput is the n'th input of an operation, which is read from a context.
type contextInput struct {
	input   int
	context string
}

func contextsOf(op planner.Op) (all []contextInput) {
	switch op := op.(type) {
	case *planner.Copy:
		for n, s := range op.Sources {
			if s.Path != "" && op.From.Read < 0 {
				all = append(all, contextInput{n, op.From.Context})
			}
		}
	case *planner.Run:
		for n, m := range op.Mounts {
			if m.From != nil && m.From.Read < 0 {
				all = append(all, contextInput{n, m.From.Context})
			}
		}
	case *planner.Base, *planner.Mkdir:
	}
	return all
}

// in are the files that differ in the repository around a directory.
func (r *repositories) in(ctx context.Context, dir string) ([]string, error) {
	top, err := git(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	root := strings.TrimSuffix(string(top), "\n")
	if files, ok := r.changed[root]; ok {
		return files, nil
	}
	commit, err := git(ctx, root, "rev-parse", "--verify", "--quiet", "--end-of-options", r.revision+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("--affected %s: the git repository %s has no such revision", r.revision, root)
	}
	quiet, err := withoutFilters(ctx, root)
	if err != nil {
		return nil, err
	}
	differ, err := git(ctx, root, append(quiet, "diff", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv", "--ignore-submodules=none", "-z", strings.TrimSpace(string(commit)), "--")...)
	if err != nil {
		return nil, err
	}
	untracked, err := git(ctx, root, "ls-files", "--others", "-z") // also what git ignores: a build reads it
	if err != nil {
		return nil, err
	}
	files := []string{}
	for name := range bytes.SplitSeq(append(differ, untracked...), []byte{0}) {
		if len(name) > 0 {
			files = append(files, filepath.Join(root, string(name)))
		}
	}
	r.changed[root] = files
	return files, nil
}

// withoutFilters are arguments of git by which it starts none of the programs that the configuration of a repository, or of one of its
// submodules, names for the content of files. The user's own, such as those of LFS, are left. A file that only such a program knows to be
// as it was counts as changed.
func withoutFilters(ctx context.Context, root string) (args []string, err error) {
	for dirs := []string{root}; len(dirs) > 0; dirs = dirs[1:] {
		config, err := git(ctx, dirs[0], "config", "-z", "--list", "--name-only", "--show-scope")
		if err != nil {
			return nil, err
		}
		fields := strings.Split(string(config), "\x00")
		for i := 0; i+1 < len(fields); i += 2 {
			scope, name := fields[i], fields[i+1]
			if strings.HasPrefix(name, "filter.") && scope != "system" && scope != "global" {
				args = append(args, "--config-env="+name+"="+nothing)
			}
		}
		files, err := git(ctx, dirs[0], "ls-files", "-z", "--stage")
		if err != nil {
			return nil, err
		}
		for file := range strings.SplitSeq(string(files), "\x00") {
			_, name, _ := strings.Cut(file, "\t")
			submodule := filepath.Join(dirs[0], name)
			if _, err := os.Lstat(filepath.Join(submodule, ".git")); err == nil && strings.HasPrefix(file, "160000 ") {
				dirs = append(dirs, submodule)
			}
		}
	}
	return args, nil
}

// nothing is a variable of git's environment that is empty.
const nothing = "FORGE_NOTHING"

// git asks the repository around a directory. Its configuration names programs, and the repository is not trusted: none is started, if
// what compares files has the arguments of withoutFilters.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{
		"-C", dir, "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "diff.external=", "-c", "core.attributesFile=/dev/null",
	}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_ALLOW_PROTOCOL=none", "GIT_NO_LAZY_FETCH=1", "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C", nothing+"=")
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("--affected asks git what has changed, and there is no git on this machine: install it")
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		text, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		verb := args[slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })]
		return nil, fmt.Errorf("--affected: git %s in %s: %s", verb, dir, strings.TrimPrefix(text, "fatal: "))
	}
	return out, err
}
