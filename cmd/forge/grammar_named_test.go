package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestParseNamed parses each flag of each command with many, alone and by its letter, its other names and the environment, with the
// whole grammar and with what the line names: both understand the same.
func TestParseNamed(t *testing.T) {
	tested := 0
	for _, c := range commands() {
		whole := reflect.TypeOf(c.flags)
		if len(leaves(whole.Elem(), nil)) < manyFlags {
			continue
		}
		for i := range whole.NumMethod() {
			if name := whole.Method(i).Name; name != "Run" && name != "Help" {
				t.Errorf("%s has a method %s, which kong would not find", whole, name)
			}
		}
		for _, line := range linesOf(t, c.name) {
			tested++
			sameParse(t, line)
		}
		for _, f := range model(t, c.name).Flags {
			for _, name := range f.Envs {
				t.Run(c.name+" "+name, func(t *testing.T) {
					t.Setenv(name, valueFor(f))
					sameParse(t, []string{c.name, "x"})
				})
			}
		}
	}
	if tested < 400 {
		t.Errorf("%d command lines, want those of build, run, create and others", tested)
	}
}

// model is the whole grammar's node of a command.
func model(t *testing.T, name string) *kong.Node {
	t.Helper()
	k, err := grammar(&cli{}, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	return k.Model.Children[0]
}

// linesOf are command lines of a command.
func linesOf(t *testing.T, command string) (lines [][]string) {
	t.Helper()
	all := []string{command}
	for _, f := range model(t, command).Flags {
		words := []string{"--" + f.Name + "=" + valueFor(f)}
		if f.Short != 0 && !f.IsBool() {
			words = append(words, fmt.Sprintf("-%c%s", f.Short, valueFor(f)))
		} else if f.Short != 0 {
			words = append(words, fmt.Sprintf("-%c", f.Short))
		}
		if f.Tag.Negatable != "" {
			words = append(words, "--no-"+f.Name)
		}
		for _, alias := range f.Aliases {
			words = append(words, strings.Repeat("-", min(2, len(alias)))+alias+"="+valueFor(f))
		}
		for _, word := range words {
			lines = append(lines, []string{command, word, "x"})
		}
		all = append(all, words[0])
	}
	return append(lines, []string{command}, []string{command, "x", "y"}, append(slices.Clone(all), "x"),
		[]string{command, "x", "--", "-a", "--name"}, []string{"--store", "s", command, "x"})
}

// valueFor is a value that a flag takes.
func valueFor(f *kong.Flag) string {
	if f.Enum != "" {
		return strings.Trim(strings.Split(strings.Trim(f.Enum, ","), ",")[0], " ")
	}
	for kind, value := range map[reflect.Kind]string{reflect.Bool: "true", reflect.Int: "7", reflect.Int64: "7", reflect.Pointer: "7", reflect.Float64: "7"} {
		if f.Target.Kind() == kind {
			if strings.HasSuffix(f.Target.Type().String(), "Duration") {
				return "7s"
			}
			return value
		}
	}
	return "true"
}

// sameParse parses a line with both.
func sameParse(t *testing.T, line []string) {
	t.Helper()
	var few, all cli
	named := parseNamed(&few, line)
	k, err := grammar(&all, line)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := k.Parse(line)
	if named == nil {
		if err == nil && !strings.Contains(strings.Join(line, " "), "-h") {
			t.Errorf("%q is not parsed by what it names", line)
		}
		return
	}
	if err != nil {
		t.Errorf("%q: %v; parsed by what it names", line, err)
		return
	}
	got, want := named.Selected().Target.Interface(), whole.Selected().Target.Interface()
	if !reflect.DeepEqual(got, want) || few != all || named.Command() != whole.Command() {
		t.Errorf("%q by what it names:\n%+v\n%+v %s\nwant\n%+v\n%+v %s", line, got, few, named.Command(), want, all, whole.Command())
	}
}
