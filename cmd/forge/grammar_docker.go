package main

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// A plainLine brings a command line that docker takes into the form in which kong takes it, too, as github.com/spf13/pflag reads it: -o=FILE is
// --output=FILE, -a=false is --all=false, the value of a flag may begin with a dash, and flags may stand behind arguments.
type plainLine struct {
	node  *kong.Node // the command so far
	flags []*kong.Flag
	words []string // of the command, and flags
	args  []string
}

// plainWords is the plain form of words, or words if there is a mistake in them, of which kong tells.
func plainWords(top *kong.Node, words []string) []string {
	p := plainLine{node: top, flags: top.Flags}
	for rest := words; len(rest) > 0; {
		word, n := rest[0], 1
		switch {
		case p.takesAll() && (word == "--" || isValue(word)):
			return slices.Concat(p.words, p.args, rest)
		case word == "--":
			return slices.Concat(p.words, rest[:1], p.args, rest[1:])
		case isValue(word):
			p.argument(word)
		case strings.HasPrefix(word, "--"):
			n = p.long(rest)
		default:
			n = p.short(rest)
		}
		if n == 0 {
			return words
		}
		rest = rest[n:]
	}
	return append(p.words, p.args...)
}

// takesAll reports whether the next argument is all words that follow, as they are.
func (p *plainLine) takesAll() bool {
	n := len(p.args)
	return n < len(p.node.Positional) && p.node.Positional[n].Passthrough
}

// argument reads a word that is no flag.
func (p *plainLine) argument(word string) {
	i := slices.IndexFunc(p.node.Children, func(n *kong.Node) bool { return n.Name == word || slices.Contains(n.Aliases, word) })
	if i < 0 || len(p.args) > 0 {
		p.args = append(p.args, word)
		return
	}
	p.words = append(p.words, word)
	p.descend(p.node.Children[i])
}

func (p *plainLine) descend(to *kong.Node) {
	p.node, p.flags = to, slices.Concat(p.flags, to.Flags)
}

// long reads a flag with two dashes, and its value, and returns of how many words they are; 0 if it is a mistake.
func (p *plainLine) long(words []string) int {
	name, _, has := strings.Cut(words[0][2:], "=")
	plain, negated := strings.CutPrefix(name, "no-")
	f := p.flag(func(f *kong.Flag) bool {
		return f.Name == name || len(name) > 1 && slices.Contains(f.Aliases, name) || negated && f.Name == plain && f.Tag.Negatable != ""
	})
	switch {
	case f == nil:
		return 0
	case has || f.IsBool():
		p.words = append(p.words, words[0])
		return 1
	}
	return p.value(f, words)
}

// short is long for the letters behind one dash.
func (p *plainLine) short(words []string) int {
	for rest := words[0][1:]; rest != ""; {
		letter := rest[:1]
		rest = rest[1:]
		f := p.flag(func(f *kong.Flag) bool { return string(f.Short) == letter || slices.Contains(f.Aliases, letter) })
		text, has := strings.CutPrefix(rest, "=")
		switch {
		case f == nil:
			return 0
		case f.IsBool() && !has:
			p.words = append(p.words, "-"+letter)
		case rest != "":
			p.words = append(p.words, "--"+f.Name+"="+text)
			return 1
		default:
			return p.value(f, words)
		}
	}
	return 1
}

// value reads the value of a flag from the second word.
func (p *plainLine) value(f *kong.Flag, words []string) int {
	if len(words) == 1 {
		return 0
	}
	p.words = append(p.words, "--"+f.Name+"="+words[1])
	return 2
}

// flag is the flag that is meant; nil if there is none. Where a noun has a command that need not be named, its flags are looked at, too.
func (p *plainLine) flag(meant func(*kong.Flag) bool) *kong.Flag {
	for {
		if i := slices.IndexFunc(p.flags, meant); i >= 0 {
			return p.flags[i]
		}
		if p.node.DefaultCmd == nil || len(p.args) > 0 {
			return nil
		}
		p.descend(p.node.DefaultCmd)
	}
}
