package source

import (
	"context"
	"path"
	"strings"
	"syscall"

	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Touched is the first of some files of a context, relative to its root, that the n'th input of an operation selects of it, or would
// select if it were still there; "" if it selects none of them.
func (r *Resolver) Touched(ctx context.Context, op planner.Op, n int, files []string) (string, error) {
	if len(files) == 0 {
		return "", nil
	}
	in, find := r.selected(op, n)
	if in == nil || in.Read >= 0 {
		return "", nil
	}
	tree, err := r.context(in.Context)
	if err != nil {
		return "", err
	}
	var q Query
	switch op := op.(type) {
	case *planner.Copy:
		q = QueryOf(op, n)
	case *planner.Run:
		q.Path = op.Mounts[n].Source
	}
	exclude, err := newPatterns(q.Exclude)
	if err != nil {
		return "", err
	}
	var ignore *patterns
	if dir, ok := tree.(*Dir); ok {
		if ignore, err = newPatterns(dir.ignore); err != nil {
			return "", err
		}
	}
	roots := rootsOf(ctx, tree, q.Path, find)
	for _, file := range files {
		if ignore.leavesOut(file) {
			continue
		}
		for _, root := range roots {
			if rel, ok := beneath(root, file); ok && (rel == "." || !exclude.leavesOut(rel)) {
				return file, nil
			}
		}
	}
	return "", nil
}

// rootsOf are what a path selects of a context, as patterns: the path itself, links on the way to it, and what links lead to. What is missing is
// no error: the build finds it out.
func rootsOf(ctx context.Context, tree filetree.Tree, asked string, find finder) []string {
	asked = path.Clean(strings.ReplaceAll(asked, "/./", "/"))
	roots := []string{inTree(asked)}
	literal, _ := splitWildcard(asked)
	_, _ = filetree.Resolve(func(name string) (filetree.Entry, error) {
		e, err := tree.Lstat(name)
		if err == nil && e.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			roots = append(roots, name) // another target is other content
		}
		return e, err
	}, inTree(literal))
	if found, err := find(ctx, tree); err == nil {
		for i := range found {
			roots = append(roots, inTree("/"+found[i].Root))
		}
	}
	return roots
}

// leavesOut reports whether patterns match a file, or a directory above it; those that are nil match nothing.
func (p *patterns) leavesOut(file string) bool {
	if p == nil {
		return false
	}
	out, err := p.m.MatchesOrParentMatches(file)
	return err == nil && out
}

// beneath is a file's path below a pattern that matches it or a directory above it. A "file" that is above the pattern is git's word for a
// repository in the repository: what it has is not told, and so counts as the whole of the pattern.
func beneath(pattern, file string) (rel string, ok bool) {
	if pattern == "." || pattern == "" {
		return file, true
	}
	want, elems := strings.Split(pattern, "/"), strings.Split(file, "/")
	both := min(len(want), len(elems))
	for i, elem := range elems[:both] {
		if matched, err := path.Match(want[i], elem); elem != want[i] && (err != nil || !matched) {
			return "", false
		}
	}
	return path.Join(".", path.Join(elems[both:]...)), true
}
