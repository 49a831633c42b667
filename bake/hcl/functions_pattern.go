package hcl

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

func patternFunctions() map[string]signature {
	return map[string]signature{
		"regex": texts(2, func(a []string) (any, error) {
			re, err := regexp.Compile(a[0])
			if err != nil {
				return nil, err
			}
			m := re.FindStringSubmatchIndex(a[1])
			if m == nil {
				return nil, errors.New("the pattern does not match")
			}
			return captures(re, a[1], m), nil
		}),
		"regexall": texts(2, func(a []string) (any, error) {
			re, err := regexp.Compile(a[0])
			if err != nil {
				return nil, err
			}
			out, most := []any{}, maxList/(1+re.NumSubexp())
			for _, m := range re.FindAllStringSubmatchIndex(a[1], most+1) {
				out = append(out, captures(re, a[1], m))
			}
			if len(out) > most {
				return nil, fmt.Errorf("matches more than %d times", most)
			}
			return out, nil
		}),
		"regex_replace": texts(3, func(a []string) (any, error) {
			re, err := regexp.Compile(a[1])
			if err != nil {
				return nil, err
			}
			matches := 0
			re.ReplaceAllStringFunc(a[0], func(string) string { matches++; return "" })
			// Each $ may be a part of what matches, in all of them together no more than the text.
			if err := fits(len(a[0]) + matches*len(a[2]) + strings.Count(a[2], "$")*len(a[0])); err != nil {
				return nil, err
			}
			return re.ReplaceAllString(a[0], a[2]), nil
		}),
	}
}

// captures is what a match is: a string, a list of unnamed groups, or an object of named ones.
func captures(re *regexp.Regexp, s string, m []int) any {
	group := func(i int) any {
		if m[2*i] < 0 {
			return nil
		}
		return s[m[2*i]:m[2*i+1]]
	}
	names := re.SubexpNames()
	switch {
	case len(names) == 1:
		return group(0)
	case names[1] != "":
		out := map[string]any{}
		for i, name := range names {
			if name != "" {
				out[name] = group(i)
			}
		}
		return out
	}
	var out []any
	for i := range names[1:] {
		out = append(out, group(i+1))
	}
	return out
}
