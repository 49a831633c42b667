package planner

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

const (
	// maxValue is the longest value of a variable, in bytes: Linux gives no process a longer string (MAX_ARG_STRLEN).
	maxValue = 128 << 10
	// maxWord is the most that a word, or all words of an instruction, may expand to, in bytes.
	maxWord = 64 << 20
	// maxExpanded is the most that all instructions of a build file may expand to, in bytes. The configuration of an image,
	// which they end up in, has 4 MiB.
	maxExpanded = 16 << 20
	// maxBraces is how many ${…} may be inside each other. The lexer calls itself for each.
	maxBraces = 100
)

// spend counts what comes of a build file, and is an error when that is too much.
func (p *planner) spend(bytes int) error {
	p.expandedBytes += bytes
	if p.expandedBytes > maxExpanded {
		return fmt.Errorf("the instructions so far expand to more than %d MiB", maxExpanded>>20)
	}
	return nil
}

// checkValue refuses a value that is too long for an environment.
func checkValue(name, value string) error {
	if len(value) > maxValue {
		return fmt.Errorf("%s: a value of %d bytes, more than the %d KiB that a process can be given", name, len(value), maxValue>>10)
	}
	return nil
}

// bound refuses a word that could expand beyond all measure, as "ENV A=$A$A" a few dozen times would.
func (v *variables) bound(lex *shell.Lex, word string) error {
	m := v.measure(lex, word)
	m.until(end)
	switch {
	case m.deep:
		return fmt.Errorf("%.40q has more than %d ${…} inside each other", word, maxBraces)
	case m.made > maxWord:
		return fmt.Errorf("%.40q may expand to more than %d MiB", word, maxWord>>20)
	}
	return nil
}

// measure is a measure of a word.
func (v *variables) measure(lex *shell.Lex, word string) *measure {
	m := &measure{vars: v, rest: strings.TrimPrefix(word, "\uFEFF"), escape: v.escape, quotes: !lex.SkipProcessQuotes}
	if lex.SkipProcessQuotes || m.escape == 0 { // the body of a heredoc
		m.escape = '\\'
	}
	return m
}

// A measure reads a word as BuildKit's lexer does, and sums the lengths of the strings that the lexer would make of it, the ones in
// between, too. It makes none of them. Where the lexer finds a mistake, it does not matter what the measure says.
type measure struct {
	vars   *variables
	rest   string // of the word
	escape rune
	quotes bool // whether quotes mean something
	braces int  // that are open
	deep   bool // there were too many: nothing more is read
	made   int
}

const end rune = -1 // of the word

func (m *measure) peek() rune {
	if m.rest == "" || m.deep {
		return end
	}
	ch, _ := utf8.DecodeRuneInString(m.rest)
	return ch
}

func (m *measure) next() rune {
	ch := m.peek()
	if ch != end {
		_, n := utf8.DecodeRuneInString(m.rest)
		m.rest = m.rest[n:]
	}
	return ch
}

// make notes that a string is made, and returns its length, no more than is too much, so that sums and products stay small.
func (m *measure) make(size int) int {
	size = min(size, maxWord+1)
	m.made = min(m.made+size, maxWord+1)
	return size
}

// until is the length of what comes of the word up to a character.
func (m *measure) until(stop rune) int {
	size := 0
	for {
		switch ch := m.next(); {
		case ch == end, ch == stop:
			return m.make(size)
		case ch == '$':
			size += m.dollar()
		case m.quotes && ch == '\'':
			for ch = m.next(); ch != '\'' && ch != end; ch = m.next() {
				size += 2 * utf8.RuneLen(ch) // in a pattern an escape is doubled
			}
			size += 2
		case m.quotes && ch == '"':
			size += m.quoted()
		case ch == m.escape:
			size += utf8.RuneLen(ch) + utf8.UTFMax
			m.next()
		default:
			size += utf8.RuneLen(ch)
		}
		size = min(size, maxWord+1)
	}
}

// quoted is the length of what comes of the word up to the double quote at its end.
func (m *measure) quoted() int {
	size := 2
	for {
		switch ch := m.next(); ch {
		case end, '"':
			return m.make(size)
		case '$':
			size += m.dollar()
		case m.escape:
			size += 2 * utf8.UTFMax
			if ch = m.peek(); ch == '"' || ch == '$' || ch == m.escape {
				m.next()
			}
		default:
			size += utf8.RuneLen(ch)
		}
		size = min(size, maxWord+1)
	}
}

// dollar is the length of what comes of a variable, behind its $.
func (m *measure) dollar() int {
	if m.peek() != '{' {
		name := m.name()
		value, _ := m.vars.Get(name)
		return m.make(max(len(value), 1+len(name)))
	}
	m.next()
	if m.braces++; m.braces > maxBraces {
		m.deep = true
	}
	defer func() { m.braces-- }()
	name := m.name()
	value, _ := m.vars.Get(name)
	whole := len("${:/}") + len(name) // if it stays as it is
	op := m.next()
	switch op {
	case '}':
		return m.make(max(len(value), whole))
	case '/':
		if m.peek() == '/' {
			m.next()
		}
		pattern := m.until('/')
		replacement := m.until('}')
		m.make(pattern * len(value)) // the work of the search
		// It may stand before and behind each byte, and each $0 in it is what it replaces.
		return m.make(max(whole+pattern+replacement, len(value)+(len(value)+1)*replacement+len(value)*replacement/2))
	case ':':
		m.next()
	}
	word := m.until('}')
	size := len(value)
	if op == '%' {
		size = runes(value) // it is turned round, and so is what is left
	}
	if op == '#' || op == '%' {
		m.make(word * size) // the work of the search
	}
	return m.make(max(size, whole+word))
}

// runes is the length of a text written rune by rune: a byte that is no character becomes one of three.
func runes(text string) (size int) {
	for _, ch := range text {
		size += utf8.RuneLen(ch)
	}
	return size
}

// name reads the name of a variable.
func (m *measure) name() string {
	word := m.rest
	switch ch := m.peek(); {
	case unicode.IsDigit(ch):
		m.rest = strings.TrimLeftFunc(word, unicode.IsDigit)
	case strings.ContainsRune("@*#?-$!", ch):
		m.next()
	default:
		m.rest = strings.TrimLeftFunc(word, func(ch rune) bool { return unicode.IsLetter(ch) || unicode.IsDigit(ch) || ch == '_' })
	}
	return word[:len(word)-len(m.rest)]
}
