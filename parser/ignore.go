package parser

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// maxPattern is how long an ignore pattern may be, in bytes: as the paths that it is for.
const maxPattern = 4096

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
		// To compile a pattern of a megabyte takes minutes.
		if len(pattern) > maxPattern {
			return nil, f.errorAt(i+1, fmt.Errorf("pattern of %d bytes, more than the %d of a path", len(pattern), maxPattern))
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
