package hcl

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// A version is a semantic version; parts that are missing are zero, and given says how many there are.
type version struct {
	parts [3]uint64
	pre   string
	given int
	any   bool // a part is x or *
}

// parseVersion reads [v]MAJOR[.MINOR[.PATCH]][-PRE][+BUILD].
func parseVersion(s string) (v version, err error) {
	text := strings.TrimPrefix(strings.TrimSpace(s), "v")
	text, _, _ = strings.Cut(text, "+")
	text, v.pre, _ = strings.Cut(text, "-")
	for i, part := range strings.Split(text, ".") {
		if i == 3 || part == "" {
			return v, fmt.Errorf("%q is no semantic version", s)
		}
		if part == "x" || part == "X" || part == "*" {
			v.any = true
			break
		}
		if v.parts[i], err = strconv.ParseUint(part, 10, 63); err != nil {
			return v, fmt.Errorf("%q is no semantic version", s)
		}
		v.given = i + 1
	}
	return v, nil
}

func (v version) compare(o version) int {
	for i := range v.parts {
		if c := cmp.Compare(v.parts[i], o.parts[i]); c != 0 {
			return c
		}
	}
	switch {
	case v.pre == o.pre:
		return 0
	case v.pre == "":
		return 1
	case o.pre == "":
		return -1
	}
	a, b := strings.Split(v.pre, "."), strings.Split(o.pre, ".")
	for i := range min(len(a), len(b)) {
		x, xerr := strconv.ParseUint(a[i], 10, 63)
		y, yerr := strconv.ParseUint(b[i], 10, 63)
		c := cmp.Compare(a[i], b[i])
		switch {
		case xerr == nil && yerr == nil:
			c = cmp.Compare(x, y)
		case xerr == nil:
			c = -1
		case yerr == nil:
			c = 1
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// after is the first version that differs from v in one of the first n parts.
func (v version) after(n int) version {
	var next version
	copy(next.parts[:n], v.parts[:n])
	next.parts[n-1]++
	return next
}

// satisfies reports whether a version satisfies a constraint: comparisons with ||, commas or spaces between them, ranges with " - ", ~ and ^.
// As in the package that bake uses, a version with a suffix satisfies only a comparison whose version has one.
func satisfies(text, constraint string) (bool, error) {
	v, err := parseVersion(text)
	if err != nil || v.any || v.given == 0 {
		return false, fmt.Errorf("%q is no semantic version", text)
	}
	found := false
	for _, group := range strings.Split(constraint, "||") {
		if low, high, ok := strings.Cut(group, " - "); ok {
			group = ">=" + low + " <=" + high
		}
		all, some := true, false
		fields := strings.Fields(strings.ReplaceAll(group, ",", " "))
		for i := 0; i < len(fields); i++ {
			op := fields[i]
			word := strings.TrimLeft(op, "=!<>~^")
			op = op[:len(op)-len(word)]
			if word == "" && i+1 < len(fields) { // a space stands between
				i++
				word = fields[i]
			}
			bound, err := parseVersion(word)
			if err != nil {
				return false, fmt.Errorf("constraint %q: %w", constraint, err)
			}
			ok, err := v.within(op, bound)
			if err != nil {
				return false, fmt.Errorf("constraint %q: %w", constraint, err)
			}
			all, some = all && ok, true
		}
		if !some {
			return false, fmt.Errorf("constraint %q is empty", constraint)
		}
		found = found || all
	}
	return found, nil
}

// within reports whether the version stands so to a bound.
func (v version) within(op string, bound version) (bool, error) {
	if v.pre != "" && bound.pre == "" && op != "!=" {
		return false, nil
	}
	below := func(n int) bool { return n == 0 || v.compare(bound.after(n)) < 0 }
	from := v.compare(bound) >= 0
	switch op {
	case "", "=", "==":
		if bound.any || bound.given < 3 {
			return from && below(bound.given), nil
		}
		return v.compare(bound) == 0, nil
	case "!=":
		if bound.any || bound.given < 3 {
			return !(from && below(bound.given)), nil
		}
		return v.compare(bound) != 0, nil
	case ">":
		if bound.any || bound.given < 3 {
			return !below(bound.given) && from, nil
		}
		return v.compare(bound) > 0, nil
	case ">=", "=>":
		return from, nil
	case "<":
		return !from, nil
	case "<=", "=<":
		if bound.any || bound.given < 3 {
			return below(bound.given), nil
		}
		return v.compare(bound) <= 0, nil
	case "~", "~>":
		return from && below(min(bound.given, 2)), nil
	case "^":
		n := 1
		for n < bound.given && bound.parts[n-1] == 0 {
			n++
		}
		return from && below(min(n, bound.given)), nil
	}
	return false, fmt.Errorf("%q is no comparison", op)
}
