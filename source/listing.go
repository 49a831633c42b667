package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/moby/patternmatcher"

	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A Listing is what a build sees of its main context.
type Listing struct {
	Seen       []Listed `json:"seen"`
	Hidden     []Listed `json:"hidden"`               // only of a directory; what is below a hidden directory is not listed
	IgnoreFile string   `json:"ignoreFile,omitempty"` // that hides; "" is none
}

// Listed is a file or directory.
type Listed struct {
	Path string `json:"path"` // relative to the context; that of a directory ends with a slash
	Size int64  `json:"size"` // bytes of a regular file

	Line    int    `json:"line,omitempty"`    // of the ignore file that hides it
	Pattern string `json:"pattern,omitempty"` // the same
}

// Text writes a line for each file, and for what is hidden, and by what.
func (l *Listing) Text(w io.Writer) error {
	var total int64
	t := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	for _, f := range l.Seen {
		total += f.Size
		_, _ = fmt.Fprintf(t, "%q\t%s\n", f.Path, units.HumanSize(float64(f.Size)))
	}
	if len(l.Hidden) > 0 {
		_, _ = fmt.Fprintf(t, "\nHidden:\n")
	}
	for _, f := range l.Hidden {
		_, _ = fmt.Fprintf(t, "%q\t%s:%d\t%s\n", f.Path, l.IgnoreFile, f.Line, f.Pattern)
	}
	_, _ = fmt.Fprintf(t, "\n%d files and directories, %s; hidden: %d\n", len(l.Seen), units.HumanSize(float64(total)), len(l.Hidden))
	return t.Flush()
}

// JSON writes the same for programs.
func (l *Listing) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(l)
}

// List lists the main context.
func (s *Source) List(ctx context.Context) (l Listing, err error) {
	l.Seen, l.Hidden = []Listed{}, []Listed{} // not null, in JSON
	tree, ok := s.Trees[""]
	if !ok {
		return l, errors.New("the build has no context")
	}
	err = walk(ctx, tree, ".", func(name string, e *filetree.Entry) (bool, error) {
		l.Seen = append(l.Seen, listed(name, e))
		return true, nil
	})
	if err != nil || s.spec.Context == "-" || IsRemote(s.spec.Context) {
		return l, err
	}
	file, text, err := findIgnore(ctx, s.spec.Context, s.local)
	if err != nil || file == "" {
		return l, err
	}
	l.IgnoreFile = file
	rules, err := newIgnoreRules(text)
	if err != nil {
		return l, err
	}
	all, err := OpenDir(s.spec.Context, nil, "")
	if err != nil {
		return l, err
	}
	err = walk(ctx, all, ".", func(name string, e *filetree.Entry) (bool, error) {
		if _, err := tree.Lstat(name); err == nil {
			return true, nil
		}
		hidden := listed(name, e)
		hidden.Line, hidden.Pattern, err = rules.hides(name)
		l.Hidden = append(l.Hidden, hidden)
		return false, err
	})
	return l, errors.Join(err, all.Close())
}

// walk calls visit for all below a directory, in the order of their names; it goes into a directory if that says so.
func walk(ctx context.Context, tree filetree.Tree, dir string, visit func(string, *filetree.Entry) (bool, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return tree.List(dir, func(e *filetree.Entry, _ *filetree.Sum) error {
		name := path.Join(dir, e.Name)
		enter, err := visit(name, e)
		if err != nil || !enter || e.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			return err
		}
		return walk(ctx, tree, name, visit)
	})
}

func listed(name string, e *filetree.Entry) Listed {
	l := Listed{Path: name}
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		l.Path += "/"
	case syscall.S_IFREG:
		l.Size = e.Size
	}
	return l
}

// ignoreRules are the lines of an ignore file, each by itself.
type ignoreRules struct {
	lines    []int
	patterns []string
	matchers []*patternmatcher.PatternMatcher
}

func newIgnoreRules(text []byte) (r ignoreRules, err error) {
	for i, line := range strings.Split(string(text), "\n") {
		patterns, err := parser.ParseIgnore([]byte(line))
		if err != nil {
			return r, err
		}
		for _, pattern := range patterns {
			m, err := patternmatcher.New([]string{strings.TrimPrefix(pattern, "!")})
			if err != nil {
				return r, err
			}
			r.lines, r.patterns, r.matchers = append(r.lines, i+1), append(r.patterns, pattern), append(r.matchers, m)
		}
	}
	return r, nil
}

// hides finds the line that decides: the last one that matches a name or a directory that it is in.
func (r *ignoreRules) hides(name string) (line int, pattern string, err error) {
	for i := len(r.matchers) - 1; i >= 0; i-- {
		ok, err := r.matchers[i].MatchesOrParentMatches(name)
		if ok || err != nil {
			return r.lines[i], r.patterns[i], err
		}
	}
	return 0, "", nil
}
