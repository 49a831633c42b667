package hcl

import (
	"fmt"
	"strings"
)

// A forPart is the head of a for expression.
type forPart struct {
	key, value string // variables; key may be ""
	in         *Expr
}

// forHead reads "k, v in list :" if a for expression begins here.
func (p *parser) forHead() (*forPart, error) {
	if !p.keyword("for") {
		return nil, nil
	}
	f := &forPart{value: p.identifier()}
	if f.value == "" {
		return nil, p.fail("for needs the name of a variable")
	}
	if p.take(",") {
		f.key, f.value = f.value, p.identifier()
	}
	if !p.keyword("in") {
		return nil, p.fail("expected \"in\" and not %s", p.here())
	}
	var err error
	if f.in, err = p.expression(); err != nil {
		return nil, err
	}
	return f, nil
}

// each calls do for each element.
func (f *forPart) each(s *Scope, do func(*Scope) error) error {
	v, err := f.in.Value(s)
	if err != nil {
		return err
	}
	step := func(key, value any) error {
		if err := s.turn(); err != nil {
			return err
		}
		vars := map[string]any{f.value: value}
		if f.key != "" {
			vars[f.key] = key
		}
		return do(s.With(vars))
	}
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			if err := step(number().SetInt64(int64(i)), e); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, k := range sortedKeys(v) {
			if err := step(k, v[k]); err != nil {
				return err
			}
		}
	default:
		return &Error{f.in.Pos, fmt.Errorf("for goes over a list or a map, and not over %s", kind(v))}
	}
	return nil
}

// condition reads "if …" of a for expression; it is nil if there is none.
func (p *parser) condition() (*Expr, error) {
	if !p.keyword("if") {
		return nil, nil
	}
	return p.expression()
}

func holds(s *Scope, condition *Expr) (bool, error) {
	if condition == nil {
		return true, nil
	}
	v, err := condition.Value(s)
	if err != nil {
		return false, err
	}
	return Bool(v)
}

// tuple reads a list, or a for expression that makes one, behind the bracket.
func (p *parser) tuple(pos Pos) (*Expr, error) {
	p.open++
	defer func() { p.open-- }()
	if f, err := p.forHead(); f != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return p.forTuple(pos, f)
	}
	var items []*Expr
	for !p.take("]") {
		if len(items) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
			if p.take("]") {
				break
			}
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, e)
	}
	return &Expr{Pos: pos, eval: func(s *Scope) (any, error) {
		list := make([]any, len(items))
		for i, e := range items {
			var err error
			if list[i], err = e.Value(s); err != nil {
				return nil, err
			}
		}
		return list, nil
	}}, nil
}

func (p *parser) forTuple(pos Pos, f *forPart) (*Expr, error) {
	if err := p.expect(":"); err != nil {
		return nil, err
	}
	value, err := p.expression()
	if err != nil {
		return nil, err
	}
	condition, err := p.condition()
	if err != nil {
		return nil, err
	}
	if err := p.expect("]"); err != nil {
		return nil, err
	}
	return &Expr{Pos: pos, eval: func(s *Scope) (any, error) {
		list := []any{}
		err := f.each(s, func(s *Scope) error {
			if ok, err := holds(s, condition); !ok || err != nil {
				return err
			}
			v, err := value.Value(s)
			list = append(list, v)
			return err
		})
		return list, err
	}}, nil
}

// object reads an object, or a for expression that makes one, behind the brace.
func (p *parser) object(pos Pos) (*Expr, error) {
	open := p.open
	p.open = 1
	defer func() { p.open = open }()
	if f, err := p.forHead(); f != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return p.forObject(pos, f)
	}
	var keys, values []*Expr
	for {
		p.open = 1 // between items
		for p.take(",") {
		}
		if p.take("}") {
			break
		}
		if p.skip(); p.end() {
			return nil, &Error{pos, fmt.Errorf("an object has no end")}
		}
		key, err := p.key()
		if err != nil {
			return nil, err
		}
		if !p.take("=") && !p.take(":") {
			return nil, p.fail("expected \"=\" and not %s", p.here())
		}
		p.open = 0 // the end of the line ends the item
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		keys, values = append(keys, key), append(values, value)
		if p.skip(); !p.end() && p.text[p.at] != ',' && p.text[p.at] != '\n' && p.text[p.at] != '}' {
			return nil, p.fail("expected a comma or the end of the line and not %s", p.here())
		}
	}
	return Object(pos, keys, values), nil
}

// key reads the key of an object's item: a bare name is itself.
func (p *parser) key() (*Expr, error) {
	p.skip()
	was, line, pos := p.at, p.line, p.pos()
	if name := p.identifier(); name != "" {
		p.skip()
		if strings.HasPrefix(p.rest(), "=") || strings.HasPrefix(p.rest(), ":") {
			return Literal(pos, name), nil
		}
		p.at, p.line = was, line
	}
	return p.expression()
}

func (p *parser) forObject(pos Pos, f *forPart) (*Expr, error) {
	if err := p.expect(":"); err != nil {
		return nil, err
	}
	key, err := p.expression()
	if err != nil {
		return nil, err
	}
	if err := p.expect("=>"); err != nil {
		return nil, err
	}
	value, err := p.expression()
	if err != nil {
		return nil, err
	}
	groups := p.take("...")
	condition, err := p.condition()
	if err != nil {
		return nil, err
	}
	if err := p.expect("}"); err != nil {
		return nil, err
	}
	return &Expr{Pos: pos, eval: func(s *Scope) (any, error) {
		object := map[string]any{}
		err := f.each(s, func(s *Scope) error {
			if ok, err := holds(s, condition); !ok || err != nil {
				return err
			}
			k, err := key.Value(s)
			if err != nil {
				return err
			}
			name, err := String(k)
			if err != nil {
				return err
			}
			v, err := value.Value(s)
			if err != nil {
				return err
			}
			old, there := object[name]
			switch {
			case groups:
				list, _ := old.([]any)
				object[name] = append(list, v)
			case there:
				return fmt.Errorf("two items have the key %q, which needs ... behind the value", name)
			default:
				object[name] = v
			}
			return nil
		})
		return object, err
	}}, nil
}

// postfix reads what follows an operand: attributes, indexes and splats.
func (p *parser) postfix(e *Expr) (*Expr, error) {
	for {
		of := e
		was, line := p.at, p.line
		switch {
		case strings.HasPrefix(p.rest(), "..."):
			return e, nil
		case p.take("."):
			if p.take("*") {
				return p.splat(of)
			}
			name := p.identifier()
			for n := 0; name == "" && p.at+n < len(p.text); n++ { // a number: an index in the old syntax
				if c := p.text[p.at+n]; c < '0' || c > '9' {
					name = p.text[p.at : p.at+n]
					p.at += n
					break
				}
			}
			if name == "" {
				return nil, p.fail("expected the name of an attribute behind the dot and not %s", p.here())
			}
			e = &Expr{Pos: of.Pos, eval: func(s *Scope) (any, error) { return member(s, of, name) }}
		case strings.HasPrefix(p.rest(), "["):
			p.at++
			p.open++
			if p.take("*") {
				err := p.expect("]")
				p.open--
				if err != nil {
					return nil, err
				}
				return p.splat(of)
			}
			index, err := p.expression()
			if err == nil {
				err = p.expect("]")
			}
			p.open--
			if err != nil {
				return nil, err
			}
			e = &Expr{Pos: of.Pos, eval: func(s *Scope) (any, error) {
				k, err := index.Value(s)
				if err != nil {
					return nil, err
				}
				return member(s, of, k)
			}}
		default:
			p.at, p.line = was, line
			return e, nil
		}
	}
}

// splat applies what follows to each element of a list; what is no list is one element, and null is none.
func (p *parser) splat(of *Expr) (*Expr, error) {
	const element = "*"
	each, err := p.postfix(&Expr{Pos: of.Pos, eval: func(s *Scope) (any, error) { return s.lookup(element) }})
	if err != nil {
		return nil, err
	}
	return &Expr{Pos: of.Pos, eval: func(s *Scope) (any, error) {
		v, err := of.Value(s)
		if err != nil || v == nil {
			return []any{}, err
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		out := make([]any, len(list))
		for i, e := range list {
			if out[i], err = each.Value(s.With(map[string]any{element: e})); err != nil {
				return nil, err
			}
		}
		return out, nil
	}}, nil
}
