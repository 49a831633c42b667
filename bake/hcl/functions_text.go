package hcl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path"
	"slices"
	"strings"
	"unicode"
)

func textFunctions() map[string]signature {
	return map[string]signature{
		"upper": text(strings.ToUpper), "lower": text(strings.ToLower), "title": text(title), "trimspace": text(strings.TrimSpace),
		"chomp":   text(func(s string) string { return strings.TrimRight(s, "\r\n") }),
		"reverse": text(reversed), "basename": text(path.Base), "dirname": text(path.Dir), "sanitize": text(sanitize),
		"trim":       texts(2, func(a []string) (any, error) { return strings.Trim(a[0], a[1]), nil }),
		"trimprefix": texts(2, func(a []string) (any, error) { return strings.TrimPrefix(a[0], a[1]), nil }),
		"trimsuffix": texts(2, func(a []string) (any, error) { return strings.TrimSuffix(a[0], a[1]), nil }),
		"replace":    texts(3, func(a []string) (any, error) { return replaced(a[0], a[1], a[2]) }),
		"split": texts(2, func(a []string) (any, error) {
			if strings.Count(a[1], a[0]) >= maxList {
				return nil, fmt.Errorf("makes a list of more than %d elements", maxList)
			}
			return anys(strings.Split(a[1], a[0])), nil
		}),
		"strlen":   {1, 1, func(args []any) (any, error) { s, err := String(args[0]); return integer(len([]rune(s))), err }},
		"byteslen": {1, 1, func(args []any) (any, error) { s, err := String(args[0]); return integer(len(s)), err }},
		"substr":   {3, 3, substr},
		"bytesslice": {3, 3, func(args []any) (any, error) {
			s, err := String(args[0])
			if err != nil {
				return nil, err
			}
			from, length, err := section(args[1], args[2], len(s))
			if err != nil {
				return nil, err
			}
			return s[from : from+length], nil
		}},
		"indent": {2, 2, func(args []any) (any, error) {
			n, err := Int(args[0])
			if err != nil || n < 0 || n > 1000 {
				return nil, errors.New("the number of spaces must be from 0 to 1000")
			}
			s, err := String(args[1])
			if err != nil {
				return nil, err
			}
			return replaced(s, "\n", "\n"+strings.Repeat(" ", n))
		}},
		"join":       {2, -1, join},
		"format":     {1, -1, func(args []any) (any, error) { return formatted(args) }},
		"formatlist": {1, -1, formatList},
		"homedir":    {0, 0, func([]any) (any, error) { return os.UserHomeDir() }},
	}
}

// fits refuses a string that would have so many bytes, before it is made.
func fits(size int) error {
	if size > maxText {
		return fmt.Errorf("makes a string of more than %d bytes", maxText)
	}
	return nil
}

// replaced is a string with something else in each place of a part.
func replaced(s, part, with string) (any, error) {
	if err := fits(len(s) + strings.Count(s, part)*(len(with)-len(part))); err != nil {
		return nil, err
	}
	return strings.ReplaceAll(s, part, with), nil
}

// title has each word begin with a capital.
func title(s string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		was := before
		before = r
		if !unicode.IsLetter(was) && !unicode.IsDigit(was) && was != '_' && (was < unicode.MaxASCII || unicode.IsSpace(was)) {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

func reversed(s string) string {
	r := []rune(s)
	slices.Reverse(r)
	return string(r)
}

// sanitize leaves what may be in the name of a target.
func sanitize(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, s)
}

// section is a part of something that is so long: a negative start counts from the end, a negative length is all.
func section(offset, length any, of int) (from, n int, err error) {
	if from, err = Int(offset); err != nil {
		return 0, 0, err
	}
	if n, err = Int(length); err != nil {
		return 0, 0, err
	}
	if from < 0 {
		from += of
	}
	from = min(max(from, 0), of)
	if n < 0 || n > of-from {
		n = of - from
	}
	return from, n, nil
}

func substr(args []any) (any, error) {
	s, err := String(args[0])
	if err != nil {
		return nil, err
	}
	r := []rune(s)
	from, n, err := section(args[1], args[2], len(r))
	if err != nil {
		return nil, err
	}
	return string(r[from : from+n]), nil
}

func join(args []any) (any, error) {
	sep, err := String(args[0])
	if err != nil {
		return nil, err
	}
	var all []string
	size := 0
	for _, v := range args[1:] {
		list, err := List(v)
		if err != nil {
			return nil, err
		}
		part, err := stringsOf(list)
		if err != nil {
			return nil, err
		}
		for _, s := range part {
			size += len(s) + len(sep)
		}
		if err := fits(size - len(sep)); err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return strings.Join(all, sep), nil
}

// formatted is format: its verbs are those of C, each for the type that it is for.
func formatted(args []any) (string, error) {
	spec, err := String(args[0])
	if err != nil {
		return "", err
	}
	var b strings.Builder
	next := 1
	for i := 0; i < len(spec); i++ {
		if spec[i] != '%' {
			b.WriteByte(spec[i])
			continue
		}
		end := i + 1
		for end < len(spec) && strings.IndexByte("+-# 0123456789.[]", spec[end]) >= 0 {
			end++
		}
		if end >= len(spec) {
			return "", fmt.Errorf("the verb at the end of %q is not whole", spec)
		}
		flags, verb := spec[i+1:end], spec[end]
		i = end
		if verb == '%' {
			b.WriteByte('%')
			continue
		}
		if before, index, ok := strings.Cut(flags, "["); ok {
			digits, after, _ := strings.Cut(index, "]")
			if _, err := fmt.Sscanf(digits, "%d", &next); err != nil || next < 1 {
				return "", fmt.Errorf("%%%s%c has no index", flags, verb)
			}
			flags = before + after
		}
		if len(flags) > 6 {
			return "", fmt.Errorf("%%%s%c is too wide", flags, verb)
		}
		if next >= len(args) {
			return "", fmt.Errorf("%%%s%c has no argument", flags, verb)
		}
		v, verb, err := operand(args[next], verb, &flags)
		if err != nil {
			return "", fmt.Errorf("%%%s%c: %w", flags, verb, err)
		}
		next++
		fmt.Fprintf(&b, "%"+flags+string(verb), v)
		if err := fits(b.Len()); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// operand is an argument as Go's verbs take it.
func operand(v any, verb byte, flags *string) (any, byte, error) {
	switch verb {
	case 'v':
		if strings.Contains(*flags, "#") {
			*flags = strings.ReplaceAll(*flags, "#", "")
		} else if s, err := String(v); err == nil {
			return s, 's', nil
		}
		text, err := encode(v)
		return string(text), 's', err
	case 's', 'q':
		s, err := String(v)
		return s, verb, err
	case 't':
		b, err := Bool(v)
		return b, verb, err
	case 'd', 'b', 'o', 'x', 'X':
		n, err := Number(v)
		if err != nil {
			return nil, verb, err
		}
		whole, _ := n.Int(nil)
		return whole, verb, nil
	case 'e', 'E', 'f', 'g', 'G':
		n, err := Number(v)
		return n, verb, err
	}
	return nil, verb, errors.New("is no verb of format")
}

// formatList is format for each element of the lists among its arguments.
func formatList(args []any) (any, error) {
	n := -1
	for _, v := range args[1:] {
		if list, ok := v.([]any); ok {
			if n >= 0 && n != len(list) {
				return nil, errors.New("the lists have different lengths")
			}
			n = len(list)
		}
	}
	if n < 0 {
		n = 1
	}
	out := []any{}
	size := 0
	for i := range n {
		one := slices.Clone(args)
		for j, v := range one[1:] {
			if list, ok := v.([]any); ok {
				one[j+1] = list[i]
			}
		}
		s, err := formatted(one)
		if err != nil {
			return nil, err
		}
		if size += len(s); size > 4*maxText {
			return nil, fmt.Errorf("makes more than %d bytes", 4*maxText)
		}
		out = append(out, s)
	}
	return out, nil
}

// encode is a value as JSON.
func encode(v any) ([]byte, error) {
	return json.Marshal(plain(v))
}

// plain is a value as package json takes it.
func plain(v any) any {
	switch v := v.(type) {
	case *big.Float:
		return json.Number(v.Text('f', -1))
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			out[k] = plain(e)
		}
		return out
	}
	return v
}

// decode is the value of a JSON text.
func decode(text string) (any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows the value")
	}
	return FromJSON(v)
}

// FromJSON is a value of what package json has decoded with UseNumber.
func FromJSON(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		return parseNumber(v.String())
	case []any:
		for i := range v {
			if v[i], err = FromJSON(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = FromJSON(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// JSON is a value as JSON.
func JSON(v any) ([]byte, error) { return encode(v) }
