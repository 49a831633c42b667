package parser

import (
	"errors"
	"path"
	"strings"
)

// ParseIgnore reads a .dockerignore: one pattern a line, "#" in the first column begins a comment, "!" takes back. The
// patterns come out clean, relative to the context's root and in order, of which the last that matches decides. Every
// error is an [*Error] about the file ".dockerignore"; who knows it by another name may set it.
func ParseIgnore(text []byte) ([]string, error) {
	f := &File{Name: ".dockerignore", Lines: splitLines(text)}
	var patterns []string
	for i, line := range f.Lines {
		if i == 0 {
			line = strings.TrimPrefix(line, "\uFEFF")
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		pattern := strings.TrimSpace(line)
		if pattern == "" {
			continue
		}
		pattern, negated := strings.CutPrefix(pattern, "!")
		if pattern = strings.TrimSpace(pattern); pattern == "" {
			return nil, f.errorAt(i+1, errors.New(`illegal exclusion pattern: "!"`))
		}
		if pattern = path.Clean(pattern); len(pattern) > 1 {
			pattern = strings.TrimPrefix(pattern, "/")
		}
		// Match looks at the whole pattern only when it fails to match, which no pattern but "." does with ".".
		if _, err := path.Match(pattern, "."); err != nil {
			return nil, f.errorAt(i+1, errors.New("pattern "+pattern+": "+err.Error()))
		}
		if negated {
			pattern = "!" + pattern
		}
		patterns = append(patterns, pattern)
	}
	return patterns, nil
}
