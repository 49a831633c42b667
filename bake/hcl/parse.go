package hcl

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Parse reads a file.
func Parse(name string, text []byte) (*Body, error) {
	if !utf8.Valid(text) {
		return nil, &Error{Pos{name, 1}, errors.New("is not UTF-8")}
	}
	p := &parser{file: name, text: strings.TrimPrefix(string(text), "\ufeff"), line: 1}
	b, err := p.body("")
	if err != nil {
		return nil, at(p.pos(), err)
	}
	return b, nil
}

// A parser reads a text from the beginning to the end.
type parser struct {
	file, text string
	at, line   int
	open       int  // brackets in which the end of a line means nothing
	depth      int  // of nesting
	indented   bool // the template is a heredoc with <<-
}

func (p *parser) pos() Pos { return Pos{p.file, p.line} }

func (p *parser) fail(format string, args ...any) error {
	return &Error{p.pos(), fmt.Errorf(format, args...)}
}

func (p *parser) rest() string { return p.text[p.at:] }

func (p *parser) end() bool { return p.at >= len(p.text) }

// skip goes over spaces and comments and, where it means nothing, the end of lines.
func (p *parser) skip() {
	for !p.end() {
		switch c := p.text[p.at]; {
		case c == ' ' || c == '\t' || c == '\r':
			p.at++
		case c == '\n' && p.open > 0:
			p.at++
			p.line++
		case c == '#' || strings.HasPrefix(p.rest(), "//"):
			if i := strings.IndexByte(p.rest(), '\n'); i >= 0 {
				p.at += i
			} else {
				p.at = len(p.text)
			}
		case strings.HasPrefix(p.rest(), "/*"):
			i := strings.Index(p.rest(), "*/")
			if i < 0 {
				p.at = len(p.text)
				return
			}
			p.line += strings.Count(p.rest()[:i], "\n")
			p.at += i + 2
		default:
			return
		}
	}
}

// lines goes over the ends of lines, too.
func (p *parser) lines() {
	p.open++
	p.skip()
	p.open--
}

// take goes over a word if it stands here.
func (p *parser) take(word string) bool {
	p.skip()
	if !strings.HasPrefix(p.rest(), word) {
		return false
	}
	p.at += len(word)
	return true
}

// keyword is take for a word of letters: not a part of a longer one.
func (p *parser) keyword(word string) bool {
	was, line := p.at, p.line
	if p.identifier() == word {
		return true
	}
	p.at, p.line = was, line
	return false
}

func (p *parser) expect(word string) error {
	if !p.take(word) {
		return p.fail("expected %q and not %s", word, p.here())
	}
	return nil
}

// here is what stands next, for people.
func (p *parser) here() string {
	if p.end() {
		return "the end of the file"
	}
	r, _ := utf8.DecodeRuneInString(p.rest())
	if r == '\n' {
		return "the end of the line"
	}
	return fmt.Sprintf("%q", r)
}

// identifier is a name that stands here, "" if none does.
func (p *parser) identifier() string {
	p.skip()
	n := 0
	for i, r := range p.rest() {
		if !unicode.IsLetter(r) && r != '_' && (i == 0 || !unicode.IsDigit(r) && r != '-' && !unicode.Is(unicode.Mn, r)) {
			break
		}
		n = i + utf8.RuneLen(r)
	}
	word := p.rest()[:n]
	p.at += n
	return word
}

// nest counts how deep the parser is.
func (p *parser) nest() (func(), error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail("is nested more than %d deep", maxDepth)
	}
	return func() { p.depth-- }, nil
}

// body reads arguments and blocks, up to a closing brace or, if that is "", the end of the file.
func (p *parser) body(closing string) (*Body, error) {
	leave, err := p.nest()
	if err != nil {
		return nil, err
	}
	defer leave()
	open := p.open
	p.open = 0
	defer func() { p.open = open }()
	b := &Body{Attrs: map[string]*Expr{}}
	opened := p.line
	oneLine := 0
	for {
		p.lines()
		switch {
		case p.end() && closing != "":
			return nil, p.fail("a block that begins in line %d has no end", opened)
		case p.end():
			return b, nil
		case closing != "" && p.take(closing):
			return b, nil
		}
		if p.line == opened && closing != "" {
			if oneLine++; oneLine > 1 {
				return nil, p.fail("a block in one line has one argument at most: put each on a line of its own")
			}
		}
		if err := p.item(b); err != nil {
			return nil, err
		}
	}
}

// item reads an argument or a block.
func (p *parser) item(b *Body) error {
	pos := p.pos()
	name := p.identifier()
	if name == "" && strings.HasPrefix(p.rest(), `"`) {
		return p.fail("an argument's name has no quotes")
	}
	if name == "" {
		return p.fail("expected the name of an argument or block and not %s", p.here())
	}
	p.skip()
	if strings.HasPrefix(p.rest(), "=") && !strings.HasPrefix(p.rest(), "==") {
		p.at++
		e, err := p.expression()
		if err != nil {
			return err
		}
		if b.Attrs[name] != nil {
			return &Error{pos, fmt.Errorf("the argument %q was set in line %d already", name, b.Attrs[name].Line)}
		}
		b.Attrs[name] = e
		b.order = append(b.order, name)
		return p.endOfItem()
	}
	block := &Block{Type: name, Pos: pos}
	for !p.take("{") {
		label := p.identifier()
		if label == "" && p.take(`"`) {
			end := strings.IndexAny(p.rest(), "\"\n")
			if end < 0 || p.rest()[end] == '\n' {
				return p.fail("a label has no end")
			}
			label = p.rest()[:end]
			p.at += end + 1
		}
		if label == "" {
			return p.fail("expected %q or \"{\" behind %s and not %s", "=", name, p.here())
		}
		block.Labels = append(block.Labels, label)
	}
	var err error
	if block.Body, err = p.body("}"); err != nil {
		return err
	}
	b.Blocks = append(b.Blocks, block)
	return p.endOfItem()
}

// endOfItem makes sure that nothing else stands in the line.
func (p *parser) endOfItem() error {
	p.skip()
	if p.end() || p.text[p.at] == '\n' || p.text[p.at] == '}' {
		return nil
	}
	return p.fail("expected the end of the line and not %s", p.here())
}
