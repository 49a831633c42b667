package bake

import (
	"errors"
	"fmt"
	"strings"
)

// interpolated is a value of YAML with variables put into its strings.
func interpolated(v any, lookup func(string) (string, bool), depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("is nested more than %d deep", maxDepth)
	}
	var err error
	switch v := v.(type) {
	case string:
		return interpolate(v, lookup)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			if out[i], err = interpolated(v[i], lookup, depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := map[string]any{}
		for k := range v {
			if out[k], err = interpolated(v[k], lookup, depth+1); err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
		}
		return out, nil
	case map[any]any:
		out := map[string]any{}
		for k := range v {
			if out[fmt.Sprint(k)], err = interpolated(v[k], lookup, depth+1); err != nil {
				return nil, fmt.Errorf("%v: %w", k, err)
			}
		}
		return out, nil
	}
	return v, nil
}

// interpolate puts variables into a text as compose does: $NAME, ${NAME}, with :-, -, :?, ?, :+ and + behind a name; $$ is a dollar.
func interpolate(text string, lookup func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			text = rest[1:]
			continue
		case strings.HasPrefix(rest, "{"):
			end, depth := closing(rest)
			if depth > maxDepth {
				return "", fmt.Errorf("invalid interpolation format: braces are nested more than %d deep", maxDepth)
			}
			if end < 0 {
				return "", fmt.Errorf("invalid interpolation format: %q has no end", "$"+rest)
			}
			value, err := substitute(rest[1:end], lookup)
			if err != nil {
				return "", err
			}
			b.WriteString(value)
			text = rest[end+1:]
			continue
		}
		n := nameLength(rest)
		if n == 0 {
			return "", fmt.Errorf("invalid interpolation format: %q: write $$ for a dollar", "$"+rest)
		}
		value, _ := lookup(rest[:n])
		b.WriteString(value)
		text = rest[n:]
	}
}

// closing is where the brace that a text begins with is closed, -1 if it is not, and how deep braces are nested in between.
func closing(text string) (at, deepest int) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '{':
			depth++
			deepest = max(deepest, depth)
		case text[i] == '}':
			if depth--; depth == 0 {
				return i, deepest
			}
		}
	}
	return -1, deepest
}

func nameLength(text string) int {
	for i := range len(text) {
		c := text[i]
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return i
		}
	}
	return len(text)
}

// substitute is what stands between braces.
func substitute(inner string, lookup func(string) (string, bool)) (string, error) {
	n := nameLength(inner)
	name, op := inner[:n], inner[n:]
	value, ok := lookup(name)
	if n == 0 {
		return "", fmt.Errorf("invalid interpolation format: ${%s}", inner)
	}
	if op == "" {
		return value, nil
	}
	set := ok
	if rest, colon := strings.CutPrefix(op, ":"); colon {
		op, set = rest, ok && value != ""
	}
	if op == "" {
		return "", fmt.Errorf("invalid interpolation format: ${%s}", inner)
	}
	other := op[1:]
	switch op[0] {
	case '-':
		if set {
			return value, nil
		}
		return interpolate(other, lookup)
	case '+':
		if !set {
			return "", nil
		}
		return interpolate(other, lookup)
	case '?':
		if set {
			return value, nil
		}
		message, err := interpolate(other, lookup)
		return "", errors.Join(err, fmt.Errorf("required variable %s is missing a value: %s", name, message))
	}
	return "", fmt.Errorf("invalid interpolation format: ${%s}", inner)
}
