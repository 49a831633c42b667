package hcl

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A templateEnd says where a template ends.
type templateEnd int

const (
	endOfText   templateEnd = iota
	endOfQuotes             // at a quote; escapes begin with a backslash
)

// A part is a piece of a template: text, an expression, or a directive such as "if".
type part struct {
	text            string
	expr            *Expr
	word            string // of a directive: if, else, endif, for, endfor
	loop            *forPart
	stripL, stripR  bool
	pos             Pos
	isText, literal bool // literal: from ${…}
}

// template reads a template up to its end.
func (p *parser) template(end templateEnd) (*Expr, error) {
	pos := p.pos()
	var parts []part
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			parts = append(parts, part{text: text.String(), isText: true})
			text.Reset()
		}
	}
	for {
		switch {
		case p.end() && end == endOfText:
			flush()
			return p.assemble(pos, parts)
		case p.end(), end == endOfQuotes && p.text[p.at] == '\n':
			return nil, p.fail("a string has no end")
		case end == endOfQuotes && p.text[p.at] == '"':
			p.at++
			flush()
			return p.assemble(pos, parts)
		case end == endOfQuotes && p.text[p.at] == '\\':
			s, err := p.escape()
			if err != nil {
				return nil, err
			}
			text.WriteString(s)
		case strings.HasPrefix(p.rest(), "$${"), strings.HasPrefix(p.rest(), "%%{"):
			text.WriteString(p.text[p.at+1 : p.at+3])
			p.at += 3
		case strings.HasPrefix(p.rest(), "${"), strings.HasPrefix(p.rest(), "%{"):
			flush()
			one, err := p.sequence()
			if err != nil {
				return nil, err
			}
			parts = append(parts, one)
		default:
			c := p.text[p.at]
			text.WriteByte(c)
			p.at++
			if c == '\n' { // each line is a part, for what takes spaces away
				p.line++
				flush()
			}
		}
	}
}

// escape reads what follows a backslash.
func (p *parser) escape() (string, error) {
	if p.at++; p.end() {
		return "", p.fail("a string has no end")
	}
	c := p.text[p.at]
	p.at++
	switch c {
	case 'n':
		return "\n", nil
	case 'r':
		return "\r", nil
	case 't':
		return "\t", nil
	case '"', '\\':
		return string(c), nil
	case 'u', 'U':
		n := map[byte]int{'u': 4, 'U': 8}[c]
		if p.at+n > len(p.text) {
			return "", p.fail("\\%c needs %d hexadecimal digits", c, n)
		}
		code, err := strconv.ParseUint(p.text[p.at:p.at+n], 16, 32)
		if err != nil || !utf8.ValidRune(rune(code)) { //nolint:gosec // of 32 bits
			return "", p.fail("\\%c needs %d hexadecimal digits of a character", c, n)
		}
		p.at += n
		return string(rune(code)), nil //nolint:gosec // of 32 bits
	}
	return "", p.fail("\\%c is no escape: \\n, \\r, \\t, \\\", \\\\, \\uNNNN and \\UNNNNNNNN are", c)
}

// sequence reads ${…} or %{…}.
func (p *parser) sequence() (part, error) {
	one := part{pos: p.pos()}
	directive := p.text[p.at] == '%'
	p.at += 2
	if strings.HasPrefix(p.rest(), "~") {
		one.stripL = true
		p.at++
	}
	p.open++
	defer func() { p.open-- }()
	var err error
	if !directive {
		one.literal = true
		if one.expr, err = p.expression(); err != nil {
			return one, err
		}
	} else if err := p.directive(&one); err != nil {
		return one, err
	}
	if p.take("~") {
		one.stripR = true
	}
	p.skip()
	if !strings.HasPrefix(p.rest(), "}") {
		return one, p.fail("expected \"}\" and not %s", p.here())
	}
	p.at++ // and no more: what follows is text
	return one, nil
}

func (p *parser) directive(one *part) (err error) {
	for _, word := range []string{"if", "else", "endif", "endfor"} {
		if p.keyword(word) {
			one.word = word
			if word == "if" {
				one.expr, err = p.expression()
			}
			return err
		}
	}
	one.word = "for"
	if one.loop, err = p.forHead(); err == nil && one.loop == nil {
		err = p.fail("expected if, else, endif, for or endfor and not %s", p.here())
	}
	return err
}

// assemble makes an expression of parts.
func (p *parser) assemble(pos Pos, parts []part) (*Expr, error) {
	strip(parts)
	if p.indented {
		dedent(parts)
	}
	if len(parts) == 1 && parts[0].literal { // "${x}" is x itself
		return &Expr{Pos: pos, eval: parts[0].expr.eval}, nil
	}
	rest, write, err := sequenceOf(parts, "")
	if err != nil {
		return nil, at(pos, err)
	}
	if len(rest) > 0 {
		return nil, &Error{rest[0].pos, fmt.Errorf("%%{%s} has no beginning", rest[0].word)}
	}
	return &Expr{Pos: pos, eval: func(s *Scope) (any, error) {
		var b strings.Builder
		if err := write(s, &b); err != nil {
			return nil, err
		}
		return b.String(), s.made(b.String())
	}}, nil
}

// strip takes spaces away beside sequences with a ~.
func strip(parts []part) {
	const spaces = " \t\r\n"
	for i := range parts {
		if parts[i].stripL && i > 0 && parts[i-1].isText {
			parts[i-1].text = strings.TrimRight(parts[i-1].text, spaces)
		}
		if parts[i].stripR && i+1 < len(parts) && parts[i+1].isText {
			parts[i+1].text = strings.TrimLeft(parts[i+1].text, spaces)
		}
	}
}

type writer func(*Scope, *strings.Builder) error

// sequenceOf makes a writer of parts up to a directive that ends what the block within has begun.
func sequenceOf(parts []part, within string) (rest []part, write writer, err error) {
	var all []writer
	for len(parts) > 0 {
		one := parts[0]
		switch one.word {
		case "":
			parts = parts[1:]
			all = append(all, one.write)
			continue
		case "if":
			parts, write, err = ifOf(parts)
		case "for":
			parts, write, err = loopOf(parts)
		default:
			if within == "" {
				return nil, nil, &Error{one.pos, fmt.Errorf("%%{%s} has no beginning", one.word)}
			}
			return parts, writeAll(all), nil
		}
		if err != nil {
			return nil, nil, err
		}
		all = append(all, write)
	}
	if within != "" {
		return nil, nil, fmt.Errorf("%%{%s} has no end", within)
	}
	return nil, writeAll(all), nil
}

func writeAll(all []writer) writer {
	return func(s *Scope, b *strings.Builder) error {
		for _, w := range all {
			if err := w(s, b); err != nil {
				return err
			}
		}
		return nil
	}
}

func (one part) write(s *Scope, b *strings.Builder) error {
	if one.expr == nil {
		b.WriteString(one.text)
		return nil
	}
	v, err := one.expr.Value(s)
	if err != nil {
		return err
	}
	text, err := String(v)
	if err != nil {
		return &Error{one.pos, fmt.Errorf("in a template: %w", err)}
	}
	b.WriteString(text)
	if b.Len() > maxText {
		return &Error{one.pos, fmt.Errorf("a template makes a string of more than %d bytes", maxText)}
	}
	return nil
}

func ifOf(parts []part) ([]part, writer, error) {
	head := parts[0]
	rest, yes, err := sequenceOf(parts[1:], "if")
	if err != nil {
		return nil, nil, at(head.pos, err)
	}
	no := writeAll(nil)
	if rest[0].word == "else" {
		if rest, no, err = sequenceOf(rest[1:], "else"); err != nil {
			return nil, nil, at(head.pos, err)
		}
	}
	if rest[0].word != "endif" {
		return nil, nil, &Error{rest[0].pos, fmt.Errorf("expected %%{endif} and not %%{%s}", rest[0].word)}
	}
	return rest[1:], func(s *Scope, b *strings.Builder) error {
		ok, err := holds(s, head.expr)
		if err != nil {
			return err
		}
		if ok {
			return yes(s, b)
		}
		return no(s, b)
	}, nil
}

func loopOf(parts []part) ([]part, writer, error) {
	head := parts[0]
	rest, body, err := sequenceOf(parts[1:], "for")
	if err != nil {
		return nil, nil, at(head.pos, err)
	}
	if rest[0].word != "endfor" {
		return nil, nil, &Error{rest[0].pos, fmt.Errorf("expected %%{endfor} and not %%{%s}", rest[0].word)}
	}
	return rest[1:], func(s *Scope, b *strings.Builder) error {
		return head.loop.each(s, func(s *Scope) error { return body(s, b) })
	}, nil
}

// heredoc reads <<WORD or <<-WORD, whose lines up to one that is WORD are a template without escapes.
func (p *parser) heredoc() (*Expr, error) {
	pos := p.pos()
	p.at += 2
	indented := strings.HasPrefix(p.rest(), "-")
	if indented {
		p.at++
	}
	word := p.identifier()
	end := strings.IndexByte(p.rest(), '\n')
	if word == "" || end < 0 || strings.TrimSpace(p.rest()[:end]) != "" {
		return nil, p.fail("a heredoc begins with <<WORD at the end of a line")
	}
	p.at += end + 1
	p.line++
	first := p.line
	var lines []string
	for {
		if p.end() {
			return nil, &Error{pos, fmt.Errorf("the heredoc <<%s has no end", word)}
		}
		line := p.rest()
		if i := strings.IndexByte(line, '\n'); i >= 0 {
			line = line[:i+1]
		}
		if strings.TrimSpace(line) == word {
			p.at += len(strings.TrimRight(line, "\r\n"))
			break
		}
		lines = append(lines, line)
		p.at += len(line)
		p.line++
	}
	inner := &parser{file: p.file, text: strings.Join(lines, ""), line: first, depth: p.depth, indented: indented}
	return inner.template(endOfText)
}

// dedent takes from all lines the spaces that all of them begin with. A line whose end before it was stripped is none.
func dedent(parts []part) {
	least, begins := -1, true
	var lines []int
	for i, one := range parts {
		if begins {
			begins = false
			trimmed := strings.TrimLeft(one.text, " \t\r\n")
			if blank := one.isText && trimmed == "" && strings.HasSuffix(one.text, "\n"); !blank {
				n := len(one.text) - len(trimmed)
				if one.isText {
					lines = append(lines, i)
				}
				if least < 0 || n < least {
					least = n
				}
			}
		}
		begins = begins || one.isText && strings.HasSuffix(one.text, "\n")
	}
	for _, i := range lines {
		parts[i].text = parts[i].text[max(least, 0):]
	}
}
