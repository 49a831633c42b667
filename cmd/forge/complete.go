package main

import (
	"cmp"
	_ "embed" // the scripts of the shells
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/forge-build/forge"
)

// A completionCmd prints what makes a shell complete forge's command lines.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

//go:embed completion/forge.bash
var bashCompletion string //nolint:gochecknoglobals // what go:embed fills is one

//go:embed completion/forge.zsh
var zshCompletion string //nolint:gochecknoglobals // the same

//go:embed completion/forge.fish
var fishCompletion string //nolint:gochecknoglobals // the same

func (c *completionCmd) Run(s *session) error {
	_, err := io.WriteString(s.out, map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Shell])
	return err
}

// A completeCmd is what those scripts ask: which words can stand in the place of the last one. It prints one a line, with what it
// means behind a tab; the line ":files" means that a file can.
type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:"all"`
}

func (c *completeCmd) Run(s *session) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	if len(words) == 0 {
		words = []string{""}
	}
	for _, line := range complete(s, words[:len(words)-1], words[len(words)-1]) {
		if _, err := fmt.Fprintln(s.out, line); err != nil {
			return err
		}
	}
	return nil
}

// complete lists what can stand after words, where word has been begun.
func complete(s *session, words []string, word string) (lines []string) {
	defer func() {
		slices.Sort(lines)
		lines = slices.Compact(lines)
	}()
	at := commandAt(words)
	if at == len(words) {
		return matching(word, commandLines())
	}
	if n, ok := nounOf(words[at]); ok && at == len(words)-1 {
		for verb, command := range n.verbs {
			lines = append(lines, verb+"\tforge "+strings.Join(command, " "))
		}
		if !slices.ContainsFunc(commands(), func(c command) bool { return c.name == words[at] }) {
			return matching(word, lines)
		}
	}
	if plain, err := withoutNoun(words); err == nil {
		words = plain
	}
	s = ofStore(s, words)
	k, err := grammar(&cli{}, words)
	if err != nil {
		return nil
	}
	node, rest, flag := follow(k, words)
	switch {
	case flag != nil:
		return append(matching(word, values(s, flag.Enum, flag.FormatPlaceHolder())), maybeFiles(flag.FormatPlaceHolder())...)
	case strings.HasPrefix(word, "--") && strings.Contains(word, "="):
		name, begun, _ := strings.Cut(word, "=")
		if flag = valueOf(node, name); flag == nil {
			return nil
		}
		for _, line := range matching(begun, values(s, flag.Enum, flag.FormatPlaceHolder())) {
			lines = append(lines, name+"="+line)
		}
		return append(lines, maybeFiles(flag.FormatPlaceHolder())...)
	case strings.HasPrefix(word, "-"):
		for _, f := range node.AllFlags(true) {
			for _, f := range f {
				lines = append(lines, "--"+f.Name+"\t"+f.Help)
			}
		}
		return matching(word, lines)
	case !node.Leaf():
		for _, child := range node.Children {
			lines = append(lines, child.Name+"\t"+child.Help)
		}
		return matching(word, lines)
	}
	kind := argument(strings.TrimPrefix(wordsOf(node), "forge "), rest)
	return append(matching(word, values(s, enumOf(node, rest), kind)), maybeFiles(kind)...)
}

// ofStore is s with the store that a command line names, before its command or behind it.
func ofStore(s *session, words []string) *session {
	named := *s
	for i, word := range words {
		dir, ok := strings.CutPrefix(word, "--store=")
		switch {
		case word == "--":
			return &named
		case word == "--store" && i+1 < len(words):
			dir, ok = words[i+1], true
		}
		if ok { // as it was typed: no shell has expanded it
			named.options.Dir = kong.ExpandPath(strings.Trim(dir, `"'`))
		}
	}
	return &named
}

func commandLines() (lines []string) {
	for _, c := range commands() {
		if c.tags() == nil && !strings.HasSuffix(c.name, "-prune") { // container prune is how that is typed
			lines = append(lines, c.name+"\t"+c.help)
		}
	}
	for _, name := range nounNames() {
		n, _ := nounOf(name)
		lines = append(lines, name+"\t"+n.help)
	}
	return lines
}

func matching(word string, lines []string) (matching []string) {
	for _, line := range lines {
		if strings.HasPrefix(line, word) {
			matching = append(matching, line)
		}
	}
	return matching
}

// follow goes along the words of a command line: the command they lead to, how many arguments it has got, and the flag whose value
// comes next, nil if none does.
func follow(k *kong.Kong, words []string) (node *kong.Node, arguments int, flag *kong.Flag) {
	node = k.Model.Node
	for _, word := range words {
		if flag != nil {
			flag = nil
			continue
		}
		if strings.HasPrefix(word, "-") && word != "-" {
			flag = valueOf(node, word)
			continue
		}
		i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word || slices.Contains(n.Aliases, word) })
		if i >= 0 {
			node = node.Children[i]
			continue
		}
		arguments++
	}
	return node, arguments, flag
}

// valueOf is the flag that a word names, if its value is the next word.
func valueOf(node *kong.Node, word string) *kong.Flag {
	if strings.Contains(word, "=") {
		return nil
	}
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			short := !strings.HasPrefix(word, "--") && f.Short != 0 && strings.HasSuffix(word, string(f.Short))
			if (word == "--"+f.Name || short) && !f.IsBool() {
				return f
			}
		}
	}
	return nil
}

func enumOf(node *kong.Node, n int) string {
	if n < len(node.Positional) {
		return node.Positional[n].Enum
	}
	return ""
}

// argument is what the n'th argument of a command is, in the words of placeholders.
func argument(command string, n int) string {
	switch command {
	case "start", "stop", "restart", "kill", "wait", "logs", "attach", "pause", "unpause", "stats", "update", "rm", "port", "diff", "export", "system unit":
		return "CONTAINER"
	case "exec", "top", "rename", "commit":
		if n == 0 {
			return "CONTAINER"
		}
	case "run", "create":
		if n == 0 {
			return "IMAGE"
		}
		return "FILE"
	case "images", "tag", "rmi", "history", "save", "pull", "push":
		return "IMAGE"
	case "inspect":
		return "OBJECT"
	case "cp":
		return "CONTAINER:PATH"
	case "build", "import", "copy":
		return "FILE"
	case "network rm", "network inspect":
		return "NETWORK"
	case "network connect", "network disconnect":
		return [...]string{"NETWORK", "CONTAINER", ""}[min(n, 2)]
	case "volume rm", "volume inspect":
		return "VOLUME"
	}
	return ""
}

// values are the words for what a placeholder says, or one of a list.
func values(s *session, enum, kind string) (lines []string) {
	if enum != "" {
		return strings.Split(strings.Trim(enum, ","), ",")
	}
	if dir := s.options.Dir; dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "version")); err != nil {
			return nil // to open the store would make one, in a directory that may be there for something else
		}
	}
	_ = s.withHome(func(h *forge.Home) error { // a shell has no place for errors
		switch kind {
		case "CONTAINER", "CONTAINER:PATH":
			lines = containerNames(s, h)
		case "IMAGE", "NAME":
			lines = imageNames(s, h)
		case "NETWORK":
			lines = networkNames(h)
		case "VOLUME":
			lines = volumeNames(h)
		case "OBJECT":
			lines = slices.Concat(containerNames(s, h), imageNames(s, h), networkNames(h), volumeNames(h))
		case "STAGE":
			lines = stages(s, h)
		}
		return nil
	})
	if kind == "CONTAINER:PATH" {
		for i, line := range lines {
			name, help, _ := strings.Cut(line, "\t")
			lines[i] = name + ":\t" + help
		}
	}
	return lines
}

func maybeFiles(kind string) []string {
	for _, word := range []string{"FILE", "DIR", "PATH", "CONTEXT", "OUTPUT", "SOURCE", "VOLUME:"} {
		if strings.Contains(kind, word) {
			return []string{":files"}
		}
	}
	return nil
}

func containerNames(s *session, h *forge.Home) (lines []string) {
	list, _ := h.Containers(s.ctx, forge.ListOptions{All: true, Last: -1})
	for _, c := range list {
		lines = append(lines, c.Name+"\t"+cmp.Or(c.Image, "container"))
	}
	return lines
}

func imageNames(s *session, h *forge.Home) (lines []string) {
	list, _ := h.Images(s.ctx, forge.ImagesOptions{})
	for _, i := range list {
		if i.Repository != "" {
			lines = append(lines, i.Repository+":"+i.Tag+"\timage")
		}
	}
	return lines
}

func networkNames(h *forge.Home) (lines []string) {
	list, _ := h.ListNetworks(nil)
	for _, n := range list {
		lines = append(lines, n.Name+"\tnetwork")
	}
	return lines
}

func volumeNames(h *forge.Home) (lines []string) {
	list, _ := h.Volumes(nil)
	for _, v := range list {
		lines = append(lines, v.Name+"\tvolume")
	}
	return lines
}

// stages are those of the build file in this directory.
func stages(s *session, h *forge.Home) (lines []string) {
	list, err := h.Targets(s.ctx, forge.BuildOptions{SourceOptions: forge.SourceOptions{Context: "."}})
	if err != nil {
		return nil
	}
	for _, t := range list.Targets {
		lines = append(lines, t.Name+"\t"+cmp.Or(t.Description, "stage"))
	}
	return lines
}
