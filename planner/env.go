package planner

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// variables are names with values in the order in which they were last set. It is what BuildKit's shell package asks
// for names.
type variables struct {
	names  []string
	values map[string]string
}

func (v *variables) Get(name string) (string, bool) {
	value, ok := v.values[name]
	return value, ok
}

// Keys returns the names; they must not be changed.
func (v *variables) Keys() []string { return v.names }

func (v *variables) set(name, value string) {
	if _, ok := v.values[name]; ok {
		v.names = slices.DeleteFunc(v.names, func(s string) bool { return s == name })
	}
	if v.values == nil {
		v.values = map[string]string{}
	}
	v.names = append(v.names, name)
	v.values[name] = value
}

// setList sets variables, each written "name=value". Thousands of stages may do so with thousands of them.
func (v *variables) setList(list []string) {
	for _, kv := range list {
		name, _, _ := strings.Cut(kv, "=")
		delete(v.values, name)
	}
	v.names = slices.DeleteFunc(v.names, func(name string) bool { _, ok := v.values[name]; return !ok })
	for _, kv := range list {
		name, value, _ := strings.Cut(kv, "=")
		v.set(name, value)
	}
}

func (v *variables) remove(name string) {
	delete(v.values, name)
	v.names = slices.DeleteFunc(v.names, func(s string) bool { return s == name })
}

func (v *variables) clone() *variables {
	c := &variables{names: slices.Clone(v.names), values: make(map[string]string, len(v.values))}
	for name, value := range v.values {
		c.values[name] = value
	}
	return c
}

// expand replaces variables in a word.
func (v *variables) expand(lex *shell.Lex, word string) (shell.ProcessWordResult, error) {
	if err := v.bound(word); err != nil {
		return shell.ProcessWordResult{}, err
	}
	return lex.ProcessWordWithMatches(word, v)
}

// list returns "name=value" for each.
func (v *variables) list() []string {
	list := make([]string, len(v.names))
	for i, name := range v.names {
		list[i] = name + "=" + v.values[name]
	}
	return list
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
