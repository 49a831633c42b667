package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/patternmatcher"

	"github.com/forge-build/forge/snapshot/filetree"
)

// hasWildcard reports whether a source is a pattern of [path.Match]. A backslash takes the meaning from what follows it.
func hasWildcard(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// expand returns the paths that a source, clean and absolute, names in tree: itself if it has no wildcard, else what
// matches it, in the order of a walk. The part before the first wildcard follows links; what comes after does not, and
// "**" is no more than "*". A directory that matches is not searched any further.
func expand(ctx context.Context, tree filetree.Tree, source string) ([]string, error) {
	literal, pattern := splitWildcard(source)
	if pattern == "" {
		return []string{literal}, nil
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, &fs.PathError{Op: "match", Path: source, Err: err}
	}
	base, err := filetree.Resolve(tree.Lstat, inTree(literal))
	if err != nil {
		return nil, notFound(literal, err)
	}
	var found []string
	depth := strings.Count(pattern, "/")
	var walk func(dir, rel string, depth int) error
	walk = func(dir, rel string, depth int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return tree.List(dir, func(e *filetree.Entry, _ *filetree.Sum) error {
			rel := path.Join(rel, e.Name)
			if ok, _ := path.Match(pattern, rel); ok {
				found = append(found, path.Join("/", base, rel))
				return nil
			}
			if depth > 0 && e.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				return walk(path.Join(dir, e.Name), rel, depth-1)
			}
			return nil
		})
	}
	e, err := tree.Lstat(base)
	if err != nil {
		return nil, notFound(literal, err)
	}
	if e.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return nil, nil
	}
	return found, walk(base, "", depth)
}

// splitWildcard splits a clean path before its first element with a wildcard.
func splitWildcard(p string) (literal, pattern string) {
	elems := strings.Split(p, "/")
	for i, elem := range elems {
		if hasWildcard(elem) {
			return path.Join("/", path.Join(elems[:i]...)), path.Join(elems[i:]...)
		}
	}
	return p, ""
}

// A NotFoundError means that a source of a COPY is not there.
type NotFoundError struct {
	Path   string // as it was looked for, absolute
	Hidden bool   // it is there, but .dockerignore hides it
	Err    error
}

func (e *NotFoundError) Error() string {
	hint := ""
	if e.Hidden {
		hint = " (it is there, but the ignore file of the build context excludes it)"
	}
	return `"` + e.Path + `": not found` + hint
}

func (e *NotFoundError) Unwrap() error { return e.Err }

// notFound says of a missing file what can be said; other errors are passed on.
func notFound(name string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	return &NotFoundError{Path: path.Join("/", name), Hidden: errors.Is(err, filetree.ErrHidden), Err: err}
}

// patterns are those of an ignore file, --exclude or --parents. Not safe for concurrent use: the matcher compiles lazily.
type patterns struct {
	m *patternmatcher.PatternMatcher
}

// matched is what patterns say about a directory; it helps to match what is in it.
type matched = patternmatcher.MatchInfo

// newPatterns is nil if there are none.
func newPatterns(list []string) (*patterns, error) {
	if len(list) == 0 {
		return nil, nil
	}
	if err := checkPatterns(list); err != nil {
		return nil, err
	}
	m, err := patternmatcher.New(list)
	if err != nil {
		return nil, err
	}
	return &patterns{m: m}, nil
}

// checkPatterns refuses what takes too much: each pattern may become a program of some hundred times its size, which each name is given to.
func checkPatterns(list []string) error {
	const most, mostBytes = 10_000, 512 << 10
	n := 0
	for _, pattern := range list {
		n += len(pattern)
		if len(pattern) > filetree.MaxPath {
			return fmt.Errorf("a pattern of %d bytes, more than a path may have: %.50q…", len(pattern), pattern)
		}
	}
	if len(list) > most || n > mostBytes {
		return fmt.Errorf("%d patterns of %d bytes together: there may be %d of %d", len(list), n, most, mostBytes)
	}
	return nil
}

// match reports whether name or a directory above it is matched.
func (p *patterns) match(name string, parent matched) (bool, matched, error) {
	return p.m.MatchesUsingParentResults(name, parent)
}

// mayMatch reports whether a pattern that is no exception could match something beneath dir.
func (p *patterns) mayMatch(dir string) bool {
	return slices.ContainsFunc(p.m.Patterns(), func(t *patternmatcher.Pattern) bool {
		return !t.Exclusion() && reaches(t.String(), dir)
	})
}

// mayReopen reports whether an exception could match something beneath dir.
func (p *patterns) mayReopen(dir string) bool {
	return p.m.Exclusions() && slices.ContainsFunc(p.m.Patterns(), func(t *patternmatcher.Pattern) bool {
		return t.Exclusion() && reaches(t.String(), dir)
	})
}

// reaches compares a pattern with dir element by element, as far as both go.
func reaches(pattern, dir string) bool {
	for more := true; more; {
		var p, elem string
		p, pattern, more = strings.Cut(pattern, "/")
		elem, dir, _ = strings.Cut(dir, "/")
		if strings.Contains(p, "**") {
			return true
		}
		if ok, err := path.Match(p, elem); !ok && err == nil {
			return false
		}
		if dir == "" {
			return true
		}
	}
	return true // it matches a directory above dir, and so all that is in it
}
