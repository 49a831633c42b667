package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// A noun is docker's way to group commands: `container ls` is `ps`.
type noun struct {
	help  string
	verbs map[string][]string // the command, perhaps with flags, that a verb is
}

// nounNames are docker's nouns that mean other commands.
func nounNames() []string { return []string{"builder", "buildx", "container", "image", "system"} }

// nounOf is one of docker's nouns. Those without a help are commands with verbs of their own besides.
func nounOf(word string) (n noun, ok bool) {
	switch word {
	case "container":
		verbs := same("attach", "commit", "cp", "create", "diff", "exec", "export", "kill", "logs", "pause", "port", "rename",
			"restart", "rm", "run", "start", "stats", "stop", "top", "unpause", "update", "wait")
		for _, ls := range []string{"ls", "list", "ps"} {
			verbs[ls] = []string{"ps"}
		}
		verbs["remove"] = []string{"rm"}
		verbs["inspect"], verbs["prune"] = []string{"inspect", "--type", "container"}, []string{"container-prune"}
		return noun{"Look after containers.", verbs}, true
	case "image":
		verbs := same("build", "history", "import", "load", "pull", "push", "save", "tag")
		for _, ls := range []string{"ls", "list"} {
			verbs[ls] = []string{"images"}
		}
		verbs["inspect"], verbs["prune"] = []string{"inspect", "--type", "image"}, []string{"image-prune"}
		verbs["rm"], verbs["remove"] = []string{"rmi"}, []string{"rmi"}
		return noun{"Look after images.", verbs}, true
	case "builder":
		return noun{"Look after the build cache.", map[string][]string{"build": {"build"}, "prune": {"buildx", "prune"}}}, true
	case "buildx":
		return noun{"", map[string][]string{"b": {"build"}, "bake": {"bake"}, "f": {"bake"}, "build": {"build"}, "history": {"builds"}, "version": {"version"}}}, true
	case "system":
		return noun{"", map[string][]string{"events": {"events"}}}, true
	}
	return noun{}, false
}

// same are verbs that are commands of the same name.
func same(verbs ...string) map[string][]string {
	m := map[string][]string{}
	for _, v := range verbs {
		m[v] = []string{v}
	}
	return m
}

// withoutNoun replaces docker's noun and verb by the command that they mean, and what asks for help by --help. It fails for a word
// that is no command.
func withoutNoun(args []string) ([]string, error) {
	at := commandAt(args)
	if at < len(args) && args[at] == "help" {
		args = slices.Concat(args[:at], args[at+1:], []string{"--help"})
		at = commandAt(args)
	}
	switch {
	case len(args) == 0:
		return []string{"--help"}, nil
	case at == len(args):
		return args, nil
	}
	word, rest := args[at], args[at+1:]
	n, isNoun := nounOf(word)
	if isNoun && len(rest) > 0 {
		if command, ok := n.verbs[rest[0]]; ok {
			return slices.Concat(args[:at], command, rest[1:]), nil
		}
	}
	all := commands()
	isCommand := slices.ContainsFunc(all, func(c command) bool { return c.name == word })
	switch {
	case word == "bud" || word == "build-using-dockerfile": // which read their flags themselves
		return slices.Concat(args[:at+1], []string{"--"}, rest), nil
	case isCommand:
		return args, nil
	case !isNoun:
		known := nounNames()
		for _, c := range all {
			known = append(known, c.name)
		}
		return nil, unknownCommand("forge", word, known)
	case len(rest) > 0 && !asksHelp(rest[0]):
		return nil, unknownCommand("forge "+word, rest[0], slices.Collect(maps.Keys(n.verbs)))
	}
	return args, nil
}

func asksHelp(word string) bool { return word == "--help" || word == "-h" }

// nounHelp is the help of a noun that stands without a verb; "" if args are a command.
func nounHelp(args []string) string {
	at := commandAt(args)
	if at == len(args) {
		return ""
	}
	n, _ := nounOf(args[at])
	if n.help == "" || len(args) > at+1 && !asksHelp(args[at+1]) {
		return ""
	}
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "Usage: forge %s <command> [flags]\n\n%s\n\nCommands:\n", args[at], n.help)
	w := tabwriter.NewWriter(&b, 0, 8, 4, ' ', 0)
	for _, verb := range slices.Sorted(maps.Keys(n.verbs)) {
		_, _ = fmt.Fprintf(w, "  %s\tforge %s\n", verb, strings.Join(n.verbs[verb], " "))
	}
	_ = w.Flush()
	_, _ = fmt.Fprintf(&b, "\nRun \"forge %s <command> --help\" for more information on a command.\n", args[at])
	return b.String()
}

// unknownCommand says that there is no such word, and which one may be meant.
func unknownCommand(parent, word string, known []string) error {
	err := fmt.Errorf("unknown command: %s %s", parent, word)
	if near := nearest(word, known); near != "" {
		err = fmt.Errorf("%w; did you mean %s %s?", err, parent, near)
	}
	return &usageError{1, err, parent}
}

// nearest is the only one of the known words that a slip of the keys makes this word of: a letter too much, too few or in the wrong
// place, or, in a word long enough to be recognised, a wrong one. Two such words mean two things, and none is offered.
func nearest(word string, known []string) string {
	near := ""
	for _, k := range known {
		if !slip(word, k) {
			continue
		}
		if near != "" && near != k {
			return ""
		}
		near = k
	}
	return near
}

// recognised is how many letters a word has that is known in spite of a wrong one.
const recognised = 5

// slip reports whether typed is meant, but for one slip of the keys.
func slip(typed, meant string) bool {
	t, m := []rune(typed), []rune(meant)
	if len(t) > len(m) {
		t, m = m, t
	}
	i := 0
	for i < len(t) && t[i] == m[i] {
		i++
	}
	switch rest := m[i:]; {
	case len(m) == len(t)+1:
		return string(t[i:]) == string(rest[1:])
	case len(m) != len(t) || len(rest) == 0:
		return false
	case len(m) >= recognised && string(t[i+1:]) == string(rest[1:]):
		return true
	default:
		return len(rest) > 1 && t[i] == rest[1] && t[i+1] == rest[0] && string(t[i+2:]) == string(rest[2:])
	}
}
