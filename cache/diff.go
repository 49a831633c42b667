package cache

import (
	"fmt"
	"slices"
	"strings"
)

// Diff says in sentences for people which fields differ.
//
// How it says it depends on the field's name. "env" and "arg" hold K=V, and it says which K. "files P" holds files below
// P, either one digest or name=digest of each, and it says which. "run" is a command
// line and "below" the layers that a step stands on. Any other field "changed", from what to what if it holds one value
// that is not a digest.
func Diff(old, new []Field) []string {
	var said []string
	rest := slices.Clone(old)
	for _, f := range new {
		i := slices.IndexFunc(rest, f.equal)
		if i < 0 { // of fields with one name, those that are equal belong together
			i = slices.IndexFunc(rest, func(g Field) bool { return g.Name == f.Name && !slices.ContainsFunc(new, g.equal) })
		}
		if i < 0 {
			said = append(said, describe(f)+" is new")
			continue
		}
		if !f.equal(rest[i]) {
			said = append(said, change(rest[i], f)...)
		}
		rest = slices.Delete(rest, i, i+1)
	}
	for _, f := range rest {
		said = append(said, describe(f)+" is gone")
	}
	return said
}

// describe names a field that has nothing to be compared with.
func describe(f Field) string {
	if path, ok := strings.CutPrefix(f.Name, "files "); ok {
		return "files below " + path
	}
	if len(f.Values) == 1 && !isOpaque(f.Values[0]) {
		return fmt.Sprintf("%s %q", f.Name, clip(f.Values[0]))
	}
	return f.Name
}

func change(old, new Field) []string {
	path, isFiles := strings.CutPrefix(new.Name, "files ")
	switch {
	case new.Name == "env" || new.Name == "arg":
		return changeOfPairs(new.Name+" ", new.Name, old.Values, new.Values)
	case isFiles && (len(old.Values) > 1 || len(new.Values) > 1):
		return changeOfPairs("file ", "files below "+path, old.Values, new.Values)
	case isFiles:
		return []string{"files below " + path + " changed"}
	case new.Name == "run":
		return []string{fmt.Sprintf("command changed from %q to %q", command(old.Values), command(new.Values))}
	case new.Name == "below":
		return []string{"the layers below changed"}
	case len(old.Values) == 1 && len(new.Values) == 1 && !isOpaque(old.Values[0]) && !isOpaque(new.Values[0]):
		return []string{fmt.Sprintf("%s changed from %q to %q", new.Name, clip(old.Values[0]), clip(new.Values[0]))}
	}
	return []string{new.Name + " changed"}
}

// changeOfPairs compares lists of K=V.
func changeOfPairs(prefix, all string, old, new []string) []string {
	const most = 5 // more are counted
	was := map[string]string{}
	for _, pair := range old {
		k, v, _ := strings.Cut(pair, "=")
		was[k] = v
	}
	var said []string
	seen := map[string]bool{}
	for _, pair := range new {
		k, v, _ := strings.Cut(pair, "=")
		seen[k] = true
		if w, ok := was[k]; !ok {
			said = append(said, prefix+k+" is new")
		} else if v != w {
			said = append(said, prefix+k+" changed")
		}
	}
	for _, pair := range old {
		if k, _, _ := strings.Cut(pair, "="); !seen[k] {
			seen[k] = true
			said = append(said, prefix+k+" is gone")
		}
	}
	switch n := len(said); {
	case n == 0:
		return []string{all + " changed order"}
	case n > most:
		return append(said[:most:most], fmt.Sprintf("%s: %d more changed", all, n-most))
	}
	return said
}

// command is a command line as people wrote it: without the shell.
func command(args []string) string {
	if len(args) == 3 && args[1] == "-c" {
		args = args[2:]
	}
	return clip(strings.Join(args, " "))
}

// isOpaque reports whether a value says nothing to people.
func isOpaque(v string) bool { return strings.HasPrefix(v, "sha256:") || v == "" }

func clip(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
