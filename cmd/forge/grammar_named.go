package main

import (
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// manyFlags is from how many flags on a command is parsed by those alone that its command line names. Such a command has no
// hooks of kong.
const manyFlags = 24

// parse parses a command line. It tries first with the flags that the line names: kong takes as long to learn the hundred flags of
// build or run as a build takes in which everything is cached. Help and mistakes are for the whole grammar.
func parse(c *cli, args []string) (*kong.Context, error) {
	if parsed := parseNamed(c, args); parsed != nil {
		return parsed, nil
	}
	k, err := grammar(c, args)
	if err != nil {
		return nil, err
	}
	if at := commandAt(args); at == len(args)-1 && len(k.Model.Children[0].Children) > 0 && k.Model.Children[0].DefaultCmd == nil {
		args = append(args, "--help") // a noun alone
	}
	return k.Parse(args)
}

// parseNamed parses a command line of a command with many flags by those that it names; nil if there are not many, if it asks for
// help, or if it has a mistake.
func parseNamed(c *cli, args []string) *kong.Context {
	at := commandAt(args)
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return at < len(args) && c.name == args[at] })
	if i < 0 {
		return nil
	}
	asked, words := all[i], newLineWords(args)
	if words.names["help"] || words.names["version"] || strings.Contains(words.letters, "h") && !hasHostName(asked.name) {
		return nil
	}
	whole := reflect.ValueOf(asked.flags).Elem()
	fields := leaves(whole.Type(), nil)
	if len(fields) < manyFlags {
		return nil
	}
	fields = slices.DeleteFunc(fields, func(f reflect.StructField) bool { return !words.mayMean(f) })
	named := reflect.New(structOf(fields))
	k, err := newGrammar(c, asked.name, []command{{asked.name, asked.help, named.Interface()}})
	if err != nil {
		return nil
	}
	parsed, err := k.Parse(args)
	if err != nil {
		return nil
	}
	for i, f := range fields {
		whole.FieldByIndex(f.Index).Set(named.Elem().Field(i))
	}
	k.Model.Children[0].Target = whole // it has the method Run
	return parsed
}

// leaves are the fields of a command's struct that are flags or arguments, with where they are in it. There are none of a noun,
// which has commands.
func leaves(t reflect.Type, at []int) (fields []reflect.StructField) {
	for i := range t.NumField() {
		f := t.Field(i)
		f.Index = append(slices.Clone(at), i)
		switch {
		case f.Anonymous:
			fields = append(fields, leaves(f.Type, f.Index)...)
		case f.IsExported() && f.Tag.Get("kong") != "-":
			if _, isCommand := f.Tag.Lookup("cmd"); isCommand {
				return nil
			}
			fields = append(fields, f)
		}
	}
	return fields
}

// structOf is a struct of these fields, one after the other.
func structOf(fields []reflect.StructField) reflect.Type {
	row := slices.Clone(fields)
	for i := range row {
		row[i].Index, row[i].Offset = nil, 0
	}
	return reflect.StructOf(row)
}

// lineWords are the words of a command line that may be flags.
type lineWords struct {
	names   map[string]bool // of those with two dashes, as plainName
	letters string          // all of those with one
}

func newLineWords(args []string) lineWords {
	w := lineWords{names: map[string]bool{}}
	for _, arg := range args {
		if name, ok := strings.CutPrefix(arg, "--"); ok {
			name, _, _ = strings.Cut(name, "=")
			w.names[plainName(name)] = true
		} else if strings.HasPrefix(arg, "-") {
			w.letters += arg[1:]
		}
	}
	return w
}

// plainName is what the name of a flag and that of its field have in common.
func plainName(name string) string { return strings.ToLower(strings.ReplaceAll(name, "-", "")) }

// mayMean reports whether one of the words may be this flag, or whether it is an argument, or has a value without being named. It may
// be wrong on the side of more flags.
func (w lineWords) mayMean(f reflect.StructField) bool {
	for _, has := range []string{"arg", "default", "required"} {
		if _, ok := f.Tag.Lookup(has); ok {
			return true
		}
	}
	for _, name := range strings.Split(f.Tag.Get("env"), ",") {
		if _, ok := os.LookupEnv(name); ok {
			return true
		}
	}
	names := append(strings.Split(f.Tag.Get("aliases"), ","), f.Tag.Get("name"), f.Name)
	return slices.ContainsFunc(names, func(name string) bool {
		plain := plainName(name)
		return plain != "" && (w.names[plain] || len(plain) == 1 && strings.Contains(w.letters, name))
	}) || f.Tag.Get("short") != "" && strings.Contains(w.letters, f.Tag.Get("short"))
}
