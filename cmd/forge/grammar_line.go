package main

import (
	"reflect"
	"slices"
	"strings"
)

// A line is a command line that was understood.
type line struct {
	command string // without its arguments, such as "system prune"
	flags   any    // the command's; nil where kong has read them
	Run     func(s *session) error
}

// parse parses a command line. One without a mistake is read here, as kong would read it: kong takes as long to learn the flags of
// build or run as a build takes in which everything is cached. Help, mistakes and nouns are kong's.
func parse(c *cli, args []string) (line, error) {
	if l, ok := readLine(c, args); ok {
		return l, nil
	}
	k, err := grammar(c, args)
	if err != nil {
		return line{}, err
	}
	if at := commandAt(args); at == len(args)-1 && len(k.Model.Children[0].Children) > 0 && k.Model.Children[0].DefaultCmd == nil {
		args = append(args, "--help") // a noun alone
	}
	parsed, err := k.Parse(plainWords(k.Model.Node, args))
	if err != nil {
		return line{}, err
	}
	name, _, _ := strings.Cut(parsed.Command(), " <")
	return line{name, nil, func(s *session) error { return parsed.Run(s) }}, nil
}

// readLine reads a command line without kong. It understands less: with what it does not know, false is returned.
func readLine(c *cli, args []string) (line, bool) {
	at := commandAt(args)
	if at == len(args) || slices.Contains(args[:at], "--") {
		return line{}, false
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == args[at] })
	if i < 0 {
		return line{}, false
	}
	flags := all[i].flags()
	run, hook := reflect.ValueOf(flags).MethodByName("Run"), reflect.ValueOf(flags).MethodByName("AfterApply")
	if !run.IsValid() || hook.IsValid() { // a noun, or something that kong has to call
		return line{}, false
	}
	var r lineReader
	var before cli
	if !r.learn(reflect.ValueOf(&before).Elem()) || !r.read(args[:at]) || !r.learn(reflect.ValueOf(flags).Elem()) || !r.read(args[at+1:]) {
		return line{}, false
	}
	*c = before
	does, ok := run.Interface().(func(s *session) error)
	return line{args[at], flags, does}, ok
}

// A lineReader reads the words of a command line into structs of kong's.
type lineReader struct {
	flags []lineField
	args  []lineField // in their order; those that have been read are gone, but for one that takes any number of words
}

// learn adds the fields of a struct, and gives those values that have some without being named. It reports false for a noun, which has commands.
func (r *lineReader) learn(v reflect.Value) bool {
	t := v.Type()
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Anonymous {
			if !r.learn(v.Field(i)) {
				return false
			}
			continue
		}
		if !field.IsExported() || field.Tag.Get("kong") == "-" {
			continue
		}
		f := lineField{name: field.Tag.Get("name"), tag: field.Tag, value: v.Field(i)}
		if f.name == "" {
			f.name = dashed(field.Name)
		}
		if f.has("cmd") || f.has("required") || !f.preset() {
			return false
		}
		if f.has("arg") {
			r.args = append(r.args, f)
		} else {
			r.flags = append(r.flags, f)
		}
	}
	return true
}

// read reads words.
func (r *lineReader) read(words []string) bool {
	for ok := true; len(words) > 0; {
		word := words[0]
		switch passthrough := len(r.args) > 0 && r.args[0].has("passthrough"); {
		case passthrough && (word == "--" || isValue(word)):
			words, ok = r.argument(words, len(words))
		case word == "--":
			for words = words[1:]; ok && len(words) > 0; {
				words, ok = r.argument(words, len(words))
			}
		case isValue(word):
			n := slices.IndexFunc(words, func(word string) bool { return !isValue(word) })
			if n < 0 {
				n = len(words)
			}
			words, ok = r.argument(words, n)
		case strings.HasPrefix(word, "--"):
			words, ok = r.long(words)
		default:
			words, ok = r.short(words)
		}
		if !ok {
			return false
		}
	}
	missing := slices.ContainsFunc(r.args, func(f lineField) bool { return !f.has("optional") && !f.given })
	return !missing && !slices.ContainsFunc(r.flags, func(f lineField) bool { return f.isOutside() })
}

// isValue reports whether a word is no flag.
func isValue(word string) bool { return word == "-" || !strings.HasPrefix(word, "-") }

// argument reads an argument of one word, or of n words if it takes several, and returns the others.
func (r *lineReader) argument(words []string, n int) ([]string, bool) {
	if len(r.args) == 0 {
		return nil, false
	}
	f := &r.args[0]
	if several, ok := f.value.Addr().Interface().(*[]string); ok {
		*several, f.given = append(*several, words[:n]...), true
		return words[n:], f.tag.Get("passthrough") != "all"
	}
	r.args = r.args[1:]
	return words[1:], f.set(words[0]) && !f.isOutside()
}

// long reads a flag with two dashes, and its value.
func (r *lineReader) long(words []string) ([]string, bool) {
	name, value, has := strings.Cut(words[0][2:], "=")
	plain, negated := strings.CutPrefix(name, "no-")
	for i := range r.flags {
		f := &r.flags[i]
		switch {
		case f.name == name || len(name) > 1 && slices.Contains(strings.Split(f.tag.Get("aliases"), ","), name):
			switch {
			case has:
				return words[1:], f.set(value)
			case f.isBool():
				return words[1:], f.set()
			}
			return f.next(words[1:])
		case negated && f.name == plain && f.has("negatable") && !has:
			return words[1:], f.set("false")
		}
	}
	return nil, false
}

// short reads the letters behind one dash, and the value of the last.
func (r *lineReader) short(words []string) ([]string, bool) {
	for rest := words[0][1:]; rest != ""; {
		letter := rest[:1]
		rest = rest[1:]
		text, has := strings.CutPrefix(rest, "=") // -o=FILE is FILE
		i := slices.IndexFunc(r.flags, func(f lineField) bool {
			return f.tag.Get("short") == letter || slices.Contains(strings.Split(f.tag.Get("aliases"), ","), letter)
		})
		switch {
		case i < 0:
			return nil, false
		case r.flags[i].isBool() && !has:
			if !r.flags[i].set() {
				return nil, false
			}
		case rest != "":
			return words[1:], r.flags[i].set(text)
		default:
			return r.flags[i].next(words[1:])
		}
	}
	return words[1:], true
}
