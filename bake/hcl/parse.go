package hcl

import (
	"errors"
	"fmt"
	"math/big"
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
	b, err := p.body(false)
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

// body reads arguments and blocks, up to a brace or the end of the file.
func (p *parser) body(braced bool) (*Body, error) {
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
		case p.end() && braced:
			return nil, p.fail("a block that begins in line %d has no end", opened)
		case p.end():
			return b, nil
		case braced && p.take("}"):
			return b, nil
		}
		if p.line == opened && braced {
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
	if block.Body, err = p.body(true); err != nil {
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

// expression reads one.
func (p *parser) expression() (*Expr, error) {
	leave, err := p.nest()
	if err != nil {
		return nil, err
	}
	defer leave()
	p.skip()
	from, pos := p.at, p.pos()
	cond, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	cond.Text = strings.TrimSpace(p.text[from:p.at])
	if !p.take("?") {
		return cond, nil
	}
	yes, err := p.expression()
	if err != nil {
		return nil, err
	}
	if err := p.expect(":"); err != nil {
		return nil, err
	}
	no, err := p.expression()
	if err != nil {
		return nil, err
	}
	return &Expr{Pos: pos, Text: strings.TrimSpace(p.text[from:p.at]), eval: func(s *Scope) (any, error) {
		v, err := cond.Value(s)
		if err != nil {
			return nil, err
		}
		which, err := Bool(v)
		if err != nil {
			return nil, &Error{cond.Pos, fmt.Errorf("condition: %w", err)}
		}
		if which {
			return yes.Value(s)
		}
		return no.Value(s)
	}}, nil
}

// operators are the binary ones, in groups of which each binds closer than those before it.
func operators() [][]string {
	return [][]string{{"||"}, {"&&"}, {"==", "!="}, {">=", "<=", ">", "<"}, {"+", "-"}, {"*", "/", "%"}}
}

// binary reads operands with operators of a group, or of those that bind closer.
func (p *parser) binary(group int) (*Expr, error) {
	all := operators()
	if group == len(all) {
		return p.unary()
	}
	left, err := p.binary(group + 1)
	if err != nil {
		return nil, err
	}
next:
	for {
		for _, op := range all[group] {
			if !p.take(op) {
				continue
			}
			right, err := p.binary(group + 1)
			if err != nil {
				return nil, err
			}
			a := left
			left = &Expr{Pos: a.Pos, eval: func(s *Scope) (any, error) { return operate(s, op, a, right) }}
			continue next
		}
		return left, nil
	}
}

func (p *parser) unary() (*Expr, error) {
	leave, err := p.nest()
	if err != nil {
		return nil, err
	}
	defer leave()
	p.skip()
	pos := p.pos()
	for _, op := range []string{"-", "!"} {
		if !p.take(op) {
			continue
		}
		of, err := p.unary()
		if err != nil {
			return nil, err
		}
		return &Expr{Pos: pos, eval: func(s *Scope) (any, error) {
			v, err := of.Value(s)
			if err != nil {
				return nil, err
			}
			if op == "!" {
				b, err := Bool(v)
				return !b, err
			}
			n, err := Number(v)
			if err != nil {
				return nil, err
			}
			return number().Neg(n), nil
		}}, nil
	}
	e, err := p.primary()
	if err != nil {
		return nil, err
	}
	return p.postfix(e)
}

// primary reads what has no operators.
func (p *parser) primary() (*Expr, error) {
	p.skip()
	pos := p.pos()
	switch {
	case p.end():
		return nil, p.fail("an expression is missing")
	case p.take(`"`):
		return p.template(endOfQuotes)
	case strings.HasPrefix(p.rest(), "<<"):
		return p.heredoc()
	case p.take("("):
		p.open++
		e, err := p.expression()
		if err == nil {
			err = p.expect(")")
		}
		p.open--
		return e, err
	case p.take("["):
		return p.tuple(pos)
	case p.take("{"):
		return p.object(pos)
	case p.text[p.at] >= '0' && p.text[p.at] <= '9':
		return p.number(pos)
	}
	name := p.identifier()
	if name == "" {
		return nil, p.fail("expected an expression and not %s", p.here())
	}
	if strings.HasPrefix(p.rest(), "(") {
		p.at++
		return p.call(pos, name)
	}
	switch name {
	case "true", "false":
		return Literal(pos, name == "true"), nil
	case "null":
		return Literal(pos, nil), nil
	}
	return &Expr{Pos: pos, eval: func(s *Scope) (any, error) { return s.lookup(name) }}, nil
}

func (p *parser) number(pos Pos) (*Expr, error) {
	n := 0
	text := p.rest()
	digits := func() {
		for n < len(text) && text[n] >= '0' && text[n] <= '9' {
			n++
		}
	}
	digits()
	if n+1 < len(text) && text[n] == '.' && text[n+1] >= '0' && text[n+1] <= '9' {
		n++
		digits()
	}
	if n < len(text) && (text[n] == 'e' || text[n] == 'E') {
		at := n
		n++
		if n < len(text) && (text[n] == '+' || text[n] == '-') {
			n++
		}
		if n >= len(text) || text[n] < '0' || text[n] > '9' {
			n = at
		}
		digits()
	}
	v, err := parseNumber(text[:n])
	if err != nil {
		return nil, p.fail("%w", err)
	}
	p.at += n
	return Literal(pos, v), nil
}

// parseNumber reads a number, whose exponent is bounded.
func parseNumber(text string) (*big.Float, error) {
	if len(text) > 1000 {
		return nil, errors.New("a number is too long")
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 && len(text)-i > 6 {
		return nil, fmt.Errorf("the number %s is too large", text)
	}
	v, _, err := big.ParseFloat(text, 10, precision, big.ToNearestEven)
	if err != nil {
		return nil, fmt.Errorf("%q is no number", text)
	}
	return v, nil
}

// call reads the arguments of a function, behind the parenthesis.
func (p *parser) call(pos Pos, name string) (*Expr, error) {
	p.open++
	defer func() { p.open-- }()
	var args []*Expr
	expand := false
	for !p.take(")") {
		if expand {
			return nil, p.fail("nothing can follow an argument that is expanded")
		}
		if len(args) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
			if p.take(")") {
				break
			}
		}
		a, err := p.expression()
		if err != nil {
			return nil, err
		}
		args = append(args, a)
		expand = p.take("...")
	}
	return &Expr{Pos: pos, eval: func(s *Scope) (any, error) {
		f, err := s.function(name)
		if err != nil {
			return nil, err
		}
		given := args
		if expand {
			last := args[len(args)-1]
			v, err := last.Value(s)
			if err != nil {
				return nil, err
			}
			list, ok := v.([]any)
			if !ok {
				return nil, fmt.Errorf("%s: what is expanded with ... must be a list", name)
			}
			given = append([]*Expr(nil), args[:len(args)-1]...)
			for _, e := range list {
				given = append(given, Literal(last.Pos, e))
			}
		}
		if err := s.turn(); err != nil {
			return nil, err
		}
		v, err := f(s, given)
		if err == nil {
			err = bounded(v)
		}
		if _, placed := err.(*Error); err != nil && !placed { //nolint:errorlint // what has a place says it all
			err = fmt.Errorf("%s: %w", name, err)
		}
		return v, err
	}}, nil
}
