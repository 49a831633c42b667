package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// usageStatus is what docker exits with when it, and not a command in a container, is at fault.
const usageStatus = 125

// A usageError is a mistake on the command line.
type usageError struct {
	status  int
	err     error
	command string // whose help says how it is right, such as "forge system prune"; "" is the one that was asked for
}

func (u *usageError) Error() string { return u.err.Error() }

func (u *usageError) Unwrap() error { return u.err }

// badUsage is a mistake that a command itself has found.
func badUsage(err error) error { return &usageError{status: 1, err: err} }

// A failure is an error with an exit status of its own.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// explainUsage says what is wrong with a command line, in docker's words and with docker's exit status.
func explainUsage(err error) error {
	e, ok := errors.AsType[*kong.ParseError](err)
	if !ok {
		return err
	}
	if lost, ok := errors.AsType[*failure](err); ok {
		return lost
	}
	node := e.Context.Selected()
	if node == nil {
		node = e.Context.Model.Node
	}
	command := wordsOf(node)
	if e.Context.Error == nil { // all words were understood
		if n := required(node); n > given(e.Context) {
			return &usageError{1, fmt.Errorf("%s requires %s", command, arguments(n, node)), command}
		}
		return &usageError{usageStatus, e.Unwrap(), command}
	}
	word := ""
	if rest := e.Context.Path[len(e.Context.Path)-1].Remainder(); len(rest) > 0 {
		word = rest[0]
	}
	said := e.Unwrap().Error()
	name, unknown := strings.CutPrefix(said, "unknown flag ")
	switch {
	case unknown:
		name, _, _ = strings.Cut(name, ", did you mean")
		return &usageError{usageStatus, unknownFlag(e.Context, name), command}
	case strings.HasPrefix(word, "-") && (strings.HasSuffix(said, "("+kong.EOLToken.String()+")") || strings.Contains(said, ": missing value")):
		flag, _, _ := strings.Cut(said, ":")
		return &usageError{usageStatus, fmt.Errorf("flag needs an argument: %s", flag), command}
	case strings.HasPrefix(word, "-"):
		return &usageError{usageStatus, e.Unwrap(), command}
	case len(node.Children) > 0:
		var known []string
		for _, child := range node.Children {
			known = append(known, child.Name)
		}
		return unknownCommand(command, word, known)
	case len(node.Positional) == 0:
		return &usageError{1, fmt.Errorf("%s accepts no arguments, and %q is one", command, word), command}
	}
	n := len(node.Positional)
	return &usageError{1, fmt.Errorf("%s takes at most %d %s, and %q is one more", command, n, plural(n, "argument"), word), command}
}

// wordsOf is a command as it is typed, without the other names that its nouns have.
func wordsOf(node *kong.Node) string {
	if node.Parent == nil {
		return node.Name
	}
	return wordsOf(node.Parent) + " " + node.Name
}

// required is how many arguments a command needs.
func required(node *kong.Node) (n int) {
	for _, arg := range node.Positional {
		if arg.Required {
			n++
		}
	}
	return n
}

// given is how many kinds of arguments there are on the command line.
func given(ctx *kong.Context) (n int) {
	for _, p := range ctx.Path {
		if p.Positional != nil {
			n = p.Positional.Position + 1
		}
	}
	return n
}

// arguments says how many are needed, and what they are.
func arguments(n int, node *kong.Node) string {
	var names []string
	least := ""
	for _, arg := range node.Positional {
		names = append(names, arg.Summary())
		if arg.IsCumulative() || !arg.Required {
			least = "at least "
		}
	}
	return fmt.Sprintf("%s%d %s: %s", least, n, plural(n, "argument"), strings.Join(names, " "))
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// unknownFlag says that there is no such flag, and which one may be meant.
func unknownFlag(ctx *kong.Context, name string) error {
	err := fmt.Errorf("unknown flag: %s", name)
	var known []string
	for _, f := range ctx.Flags() {
		if !f.Hidden {
			known = append(known, "--"+f.Name)
		}
	}
	if near := nearest(name, known); near != "" {
		err = fmt.Errorf("%w; did you mean %s?", err, near)
	}
	return err
}
