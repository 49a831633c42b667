package planner

import (
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// variables are names with values in the order in which they were last set. It is what BuildKit's shell package asks
// for names.
type variables struct {
	names  []string
	pairs  map[string]string // name → "name=value": what is in many lists is one string
	listed []string          // what list returns, until something is set
	escape rune              // of the build file
}

func (v *variables) Get(name string) (string, bool) {
	pair, ok := v.pairs[name]
	if !ok {
		return "", false
	}
	return pair[len(name)+1:], true
}

// Keys returns the names; they must not be changed.
func (v *variables) Keys() []string { return v.names }

func (v *variables) set(name, value string) {
	v.listed = nil
	if _, ok := v.pairs[name]; ok {
		v.names = slices.DeleteFunc(v.names, func(s string) bool { return s == name })
	}
	if v.pairs == nil {
		v.pairs = map[string]string{}
	}
	v.names = append(v.names, name)
	v.pairs[name] = name + "=" + value
}

// setList sets variables, each written "name=value". Thousands of stages may do so with thousands of them.
func (v *variables) setList(list []string) {
	for _, kv := range list {
		name, _, _ := strings.Cut(kv, "=")
		delete(v.pairs, name)
	}
	v.names = slices.DeleteFunc(v.names, func(name string) bool { _, ok := v.pairs[name]; return !ok })
	for _, kv := range list {
		name, value, _ := strings.Cut(kv, "=")
		v.set(name, value)
	}
}

func (v *variables) remove(name string) {
	v.listed = nil
	delete(v.pairs, name)
	v.names = slices.DeleteFunc(v.names, func(s string) bool { return s == name })
}

func (v *variables) clone() *variables {
	return &variables{names: slices.Clone(v.names), pairs: maps.Clone(v.pairs), listed: v.listed, escape: v.escape}
}

// expand replaces variables in a word.
func (v *variables) expand(lex *shell.Lex, word string) (shell.ProcessWordResult, error) {
	if err := v.bound(lex, word); err != nil {
		return shell.ProcessWordResult{}, err
	}
	return lex.ProcessWordWithMatches(word, v)
}

// list returns "name=value" for each. Others have the same list, which must not be changed.
func (v *variables) list() []string {
	if v.listed == nil {
		v.listed = make([]string, len(v.names))
		for i, name := range v.names {
			v.listed[i] = v.pairs[name]
		}
	}
	return v.listed
}

// setVariable sets name in an image's Env. What is there keeps its place.
func setVariable(list []string, name, value string) []string {
	for i, kv := range list {
		if key, _, _ := strings.Cut(kv, "="); key == name {
			list[i] = name + "=" + value
			return list
		}
	}
	return append(list, name+"="+value)
}

func hasVariable(list []string, name string) bool {
	return slices.ContainsFunc(list, func(kv string) bool { key, _, _ := strings.Cut(kv, "="); return key == name })
}
