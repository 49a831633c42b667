package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
)

// A manCmd writes the manual: a page for forge, and one for each command, in the language of man(7).
type manCmd struct {
	Dir string `arg:"" help:"Directory to write to, such as /usr/local/share/man/man1."`
}

func (c *manCmd) Run(*session) error {
	k, err := grammar(&cli{}, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	for _, node := range append([]*kong.Node{k.Model.Node}, k.Model.Leaves(true)...) {
		name := strings.ReplaceAll(wordsOf(node), " ", "-") + ".1"
		if err := os.WriteFile(filepath.Join(c.Dir, name), manual(node), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// manual is the page of a command.
func manual(node *kong.Node) []byte {
	var b bytes.Buffer
	words := wordsOf(node)
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"forge %s\" \"forge\"\n", roffWord(strings.ToUpper(strings.ReplaceAll(words, " ", "-"))), versionText())
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(strings.ReplaceAll(words, " ", "-")), roff(strings.TrimSuffix(node.Help, ".")))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n%s\n", roff(words), roff(strings.TrimPrefix(node.Summary(), strings.TrimPrefix(words, "forge "))))
	if len(node.Positional) > 0 {
		b.WriteString(".SH ARGUMENTS\n")
		for _, arg := range node.Positional {
			fmt.Fprintf(&b, ".TP\n%s\n%s\n", roff(arg.Summary()), roff(arg.Help))
		}
	}
	if len(node.Children) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, child := range node.Leaves(true) {
			fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roffWord(strings.ReplaceAll(wordsOf(child), " ", "-")), roff(child.Help))
		}
	}
	b.WriteString(".SH OPTIONS\n")
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(flagWords(f)), roff(helpText(f.Value)))
		}
	}
	if lines := examples()[strings.TrimPrefix(words, "forge ")]; len(lines) > 0 {
		b.WriteString(".SH EXAMPLES\n.nf\n")
		for _, line := range lines {
			b.WriteString(roff(line) + "\n")
		}
		b.WriteString(".fi\n")
	}
	if node.Parent != nil {
		b.WriteString(".SH SEE ALSO\n.BR forge (1)\n")
	}
	return b.Bytes()
}

// flagWords are the forms of a flag.
func flagWords(f *kong.Flag) string {
	words := "--" + f.Name
	if f.Short != 0 {
		words = "-" + string(f.Short) + ", " + words
	}
	if !f.IsBool() {
		words += "=" + f.FormatPlaceHolder()
	}
	return words
}

// roff writes a text so that groff(7) shows it as it is.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(strings.TrimSpace(text))
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// roffWord is an argument of a macro.
func roffWord(text string) string { return `"` + strings.ReplaceAll(roff(text), `"`, `\(dq`) + `"` }
