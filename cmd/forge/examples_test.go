package main

import (
	"slices"
	"strings"
	"testing"
)

// withoutExamples are docker's words for what forge does by itself.
var withoutExamples = []string{"buildx", "context"}

// TestExamples holds that each command has two examples, and that the grammar knows what is in them.
func TestExamples(t *testing.T) {
	t.Parallel()
	k, err := grammar(&cli{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := examples()
	for _, node := range k.Model.Leaves(true) {
		name := strings.TrimPrefix(wordsOf(node), "forge ")
		noun, _, _ := strings.Cut(name, " ")
		lines := all[name]
		delete(all, name)
		if slices.Contains(withoutExamples, noun) {
			continue
		}
		lines = slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasPrefix(line, "# ") })
		if len(lines) < 2 {
			t.Errorf("%s has %d examples in its help, and not two", name, len(lines))
		}
		for _, line := range lines {
			if command := parsed(t, line); command != name {
				t.Errorf("example of %s: %s: is of %q", name, line, command)
			}
		}
	}
	for name := range all {
		t.Errorf("there are examples of %s, which is no command", name)
	}
}

// parsed is the command of a line.
func parsed(t *testing.T, line string) string {
	t.Helper()
	var words []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part) // between quotes
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	args, err := withoutNoun(words[1:])
	if err != nil {
		t.Errorf("%s: %v", line, err)
		return ""
	}
	k, err := grammar(&cli{}, args)
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := k.Parse(args)
	if err != nil {
		t.Errorf("%s: %v", line, err)
		return ""
	}
	return strings.TrimPrefix(wordsOf(ctx.Selected()), "forge ")
}
