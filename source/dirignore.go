package source

import (
	"fmt"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"
)

// An ignorer answers what a list of ignore patterns hides. Not safe for concurrent use: the matcher compiles lazily.
type ignorer struct {
	m *patternmatcher.PatternMatcher
}

// A dirMatch is what the patterns say about one path; those of a directory help to match what is in it.
type dirMatch struct {
	hidden bool
	info   patternmatcher.MatchInfo
}

// newIgnorer is nil if there are no patterns.
func newIgnorer(patterns []string) (*ignorer, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("ignore patterns: %w", err)
	}
	return &ignorer{m: m}, nil
}

func (g *ignorer) match(name string, parent dirMatch) (dirMatch, error) {
	hidden, info, err := g.m.MatchesUsingParentResults(name, parent.info)
	if err != nil {
		return dirMatch{}, fmt.Errorf("ignore patterns: %s: %w", name, err)
	}
	return dirMatch{hidden: hidden, info: info}, nil
}

// mayReopen tells whether an exception could match something beneath the hidden directory dir.
func (g *ignorer) mayReopen(dir string) bool {
	if !g.m.Exclusions() {
		return false
	}
	for _, p := range g.m.Patterns() {
		if p.Exclusion() && reaches(p.String(), dir) {
			return true
		}
	}
	return false
}

// hides reports whether name, which is not in the tree, is a file of the directory: the ignore patterns hide it.
func (d *Dir) hides(name string) bool {
	if len(d.ignore) == 0 {
		return false
	}
	fd, err := d.openat(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
