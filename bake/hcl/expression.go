package hcl

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

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
	if i := strings.IndexAny(text, "eEpP"); i >= 0 && len(text)-i > 6 {
		return nil, fmt.Errorf("the number %s is too large", text)
	}
	v, _, err := big.ParseFloat(text, 10, precision, big.ToNearestEven)
	if err != nil {
		return nil, fmt.Errorf("%q is no number", text)
	}
	return within(v)
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
			err = s.made(v)
		}
		if _, placed := err.(*Error); err != nil && !placed { //nolint:errorlint // what has a place says it all
			err = fmt.Errorf("%s: %w", name, err)
		}
		return v, err
	}}, nil
}
