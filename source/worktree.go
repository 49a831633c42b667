package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Revision is one of git that working trees are compared with. It remembers what it has found out.
type Revision struct {
	name    string
	changed map[string][]string // by the root of each repository: absolute paths of files that differ
}

// NewRevision is a revision by its name, such as that of a branch.
func NewRevision(name string) *Revision { return &Revision{name, map[string][]string{}} }

// Changed are the files, absolute, by which the repository around a directory differs from the revision, those that git does not know
// included.
func (r *Revision) Changed(ctx context.Context, dir string) ([]string, error) {
	files, err := r.compare(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	return files, nil
}

func (r *Revision) compare(ctx context.Context, dir string) ([]string, error) {
	top, err := worktree(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	root := strings.TrimSuffix(string(top), "\n")
	if files, ok := r.changed[root]; ok {
		return files, nil
	}
	commit, err := worktree(ctx, root, "rev-parse", "--verify", "--quiet", "--end-of-options", r.name+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("the git repository %s has no such revision", root)
	}
	quiet, err := withoutFilters(ctx, root)
	if err != nil {
		return nil, err
	}
	differ, err := worktree(ctx, root, append(quiet, "diff", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv", "--ignore-submodules=none", "-z", strings.TrimSpace(string(commit)), "--")...)
	if err != nil {
		return nil, err
	}
	untracked, err := worktree(ctx, root, "ls-files", "--others", "-z") // also what git ignores: a build reads it
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
		config, err := worktree(ctx, dirs[0], "config", "-z", "--list", "--name-only", "--show-scope")
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
		files, err := worktree(ctx, dirs[0], "ls-files", "-z", "--stage")
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

// CommitTime is when the git commit that is checked out in a directory was made.
func CommitTime(ctx context.Context, dir string) (time.Time, error) {
	out, err := worktree(ctx, dir, "rev-list", "--max-count=1", "--format=%ct", "HEAD") // no log, which would check signatures
	if err != nil {
		return time.Time{}, fmt.Errorf("no git commit in %s: %w", dir, err)
	}
	_, text, _ := strings.Cut(string(out), "\n") // "commit ID" stands before it
	seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("git commit in %s: %w", dir, err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// worktree asks git about the repository around a directory of the user's. Its configuration names programs, and the repository is not
// trusted: none is started, if what compares files has the arguments of withoutFilters, and nothing is fetched.
func worktree(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{
		"-C", dir, "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "diff.external=", "-c", "core.attributesFile=/dev/null",
	}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_ALLOW_PROTOCOL=none", "GIT_NO_LAZY_FETCH=1", "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C", nothing+"=")
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errNoGit
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		text, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		verb := args[slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })]
		return nil, fmt.Errorf("git %s in %s: %s", verb, dir, strings.TrimPrefix(text, "fatal: "))
	}
	return out, err
}

// errNoGit says that there is no git on this machine.
var errNoGit = errors.New("the program git is needed for this and is not installed")
