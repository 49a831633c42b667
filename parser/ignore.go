package parser

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
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
		except, isException := strings.CutPrefix(pattern, "!") // a slash that was taken away may have made it one, as in BuildKit
		if !negated && isException && strings.TrimSpace(except) == "" {
			return nil, f.errorAt(i+1, errors.New(`illegal exclusion pattern: "!"; write "\!" for a file of that name`))
		}
		if err := checkPattern(pattern); err != nil {
			return nil, f.errorAt(i+1, err)
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

// checkPattern refuses what a matcher would refuse later, when nobody knows the line any more.
func checkPattern(pattern string) error {
	switch {
	case strings.IndexByte(pattern, 0) >= 0:
		return errors.New("the pattern has a zero byte; save the file as UTF-8 text")
	case !utf8.ValidString(pattern) && strings.ContainsAny(pattern, `*?[\`):
		return fmt.Errorf("the pattern %q has wildcards and bytes that are not UTF-8; save the file as UTF-8 text", pattern)
	}
	return nil
}
