package words

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
	"unicode"
)

// TemplateFunctions are what docker's templates have, those of --format and of log tags, beside the functions that all Go templates have.
func TemplateFunctions() template.FuncMap {
	return template.FuncMap{
		"json": asJSON, "split": strings.Split, "join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper,
		"title": title, "pad": pad, "truncate": truncate,
	}
}

// asJSON is a value as JSON on one line, in which <, > and & stand for themselves.
func asJSON(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// title is a text with each word's first letter in upper case, as docker has it.
func title(s string) string {
	last := ' '
	return strings.Map(func(r rune) rune {
		first := separates(last)
		if last = r; first {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

// separates reports whether a letter stands between words: of ASCII all that is no part of a name in a program.
func separates(r rune) bool {
	if r <= unicode.MaxASCII {
		return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}
	return unicode.IsSpace(r)
}

// maxPad bounds what a template can ask for, in bytes.
const maxPad = 1 << 16

// pad is a text with spaces before and behind it, unless it is empty.
func pad(s string, before, after int) (string, error) {
	if s == "" {
		return "", nil
	}
	if before > maxPad || after > maxPad {
		return "", fmt.Errorf("more than %d spaces", maxPad)
	}
	return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0)), nil
}

// truncate is the first n letters of a text.
func truncate(s string, n int) string {
	r := []rune(s)
	return string(r[:min(max(n, 0), len(r))])
}
