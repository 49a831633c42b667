// Package hcl reads HCL, the language of bake files: text becomes a body of arguments and blocks, whose expressions are evaluated when
// somebody asks for their values.
//
// It is HCL's native syntax as hashicorp/hcl has it, with templates, heredocs, for expressions, splats and the functions that bake knows,
// and without what bake has no use for: unknown and marked values. It is written here because that library takes half a millisecond of
// every start of the program.
//
// A value is nil (null), a string, a bool, a *[big.Float], a []any (list, tuple or set) or a map[string]any (map or object).
package hcl

import (
	"fmt"
	"math/big"
	"slices"
)

// A file may be a stranger's. It is not to take all memory, nor all time.
const (
	maxDepth = 200       // of nested expressions and blocks
	maxText  = 16 << 20  // bytes of a string that is made
	maxList  = 1 << 20   // elements of a list that is made
	maxTurns = 1 << 17   // of all for expressions together, and calls of functions
	maxMade  = 512 << 20 // bytes that all functions and templates together are given and make, and that all variables have
)

// A Body is what stands between braces, or the whole of a file.
type Body struct {
	Attrs  map[string]*Expr
	Blocks []*Block
	order  []string // of Attrs
}

// Names are those of the arguments, in the order of the file.
func (b *Body) Names() []string { return slices.Clone(b.order) }

// A Block is one with its labels.
type Block struct {
	Type   string
	Labels []string
	Body   *Body
	Pos    Pos
}

// A Pos is a place in a file.
type Pos struct {
	File string
	Line int // from 1
}

func (p Pos) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// An Error is a mistake in a file.
type Error struct {
	Pos
	Err error
}

func (e *Error) Error() string { return e.Pos.String() + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// An Expr is an expression.
type Expr struct {
	Pos
	Text string // as written
	eval func(*Scope) (any, error)
}

// Value evaluates the expression. Its errors are *Error.
func (e *Expr) Value(s *Scope) (any, error) {
	v, err := e.eval(s)
	return v, at(e.Pos, err)
}

// Literal is an expression that is a value.
func Literal(pos Pos, v any) *Expr {
	return &Expr{Pos: pos, eval: func(*Scope) (any, error) { return v, nil }}
}

// Template is an expression that is a string of a JSON file: a template without quotes.
func Template(pos Pos, text string) (*Expr, error) {
	p := &parser{file: pos.File, text: text, line: pos.Line}
	e, err := p.template(endOfText)
	if err != nil {
		return nil, at(pos, err)
	}
	e.Text = text
	return e, nil
}

// Compose is an expression whose value others make up.
func Compose(pos Pos, value func(*Scope) (any, error)) *Expr { return &Expr{Pos: pos, eval: value} }

// Object is an object with a value for each key, which has to come out as a string.
func Object(pos Pos, keys, values []*Expr) *Expr {
	return Compose(pos, func(s *Scope) (any, error) {
		object := map[string]any{}
		for i := range keys {
			k, err := keys[i].Value(s)
			if err != nil {
				return nil, err
			}
			key, err := String(k)
			if err != nil {
				return nil, &Error{keys[i].Pos, fmt.Errorf("key: %w", err)}
			}
			if object[key], err = values[i].Value(s); err != nil {
				return nil, err
			}
		}
		return object, nil
	})
}

// at gives an error a place, unless it has one.
func at(p Pos, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok { //nolint:errorlint // one that is wrapped says what failed in between
		return e
	}
	return &Error{p, err}
}

// A Scope is what names mean in an expression.
type Scope struct {
	Var  func(name string) (v any, ok bool, err error)      // a variable; ok is whether there is one
	Func func(name string) (f Function, ok bool, err error) // a function of the file; those of the standard library come first

	parent *Scope
	vars   map[string]any
	spent  *spent
}

// A spent is what evaluating has taken so far.
type spent struct {
	turns int // of for expressions, and calls
	made  int // bytes, as in maxMade
}

// With is a scope with more variables, which hide others.
func (s *Scope) With(vars map[string]any) *Scope {
	if s.spent == nil {
		s.spent = &spent{}
	}
	return &Scope{Var: s.Var, Func: s.Func, parent: s, vars: vars, spent: s.spent}
}

// A Function is called with expressions, so that it may leave some of them alone.
type Function func(s *Scope, args []*Expr) (any, error)

// Values makes a function of one that takes values.
func Values(call func(args []any) (any, error)) Function {
	return func(s *Scope, args []*Expr) (any, error) {
		values := make([]any, len(args))
		for i, a := range args {
			var err error
			if values[i], err = a.Value(s); err != nil {
				return nil, err
			}
			if err = s.made(values[i]); err != nil {
				return nil, err
			}
		}
		return call(values)
	}
}

// turn counts a turn of a for expression, or a call.
func (s *Scope) turn() error {
	if s.spent == nil {
		s.spent = &spent{}
	}
	if s.spent.turns++; s.spent.turns > maxTurns {
		return fmt.Errorf("for expressions go round, and functions are called, more than %d times", maxTurns)
	}
	return nil
}

// Count counts a value that is kept. See made.
func (s *Scope) Count(v any) error { return s.made(v) }

// made counts a value that a function is given or has made, or a template has made. It refuses those that are too large: a list that is
// in a list twice counts twice, since whoever goes through all of them meets it twice.
func (s *Scope) made(v any) error {
	if s.spent == nil {
		s.spent = &spent{}
	}
	switch v := v.(type) {
	case string:
		if len(v) > maxText {
			return fmt.Errorf("makes a string of more than %d bytes", maxText)
		}
	case []any:
		if len(v) > maxList {
			return fmt.Errorf("makes a list of more than %d elements", maxList)
		}
	}
	s.spent.made = weigh(v, s.spent.made)
	if s.spent.made > maxMade {
		return fmt.Errorf("functions and templates are given and make more than %d bytes", maxMade)
	}
	return nil
}

// weigh adds the bytes of a value and all that is in it to a sum, until that is more than maxMade.
func weigh(v any, sum int) int {
	const element = 16 // bytes of one at least
	if sum > maxMade {
		return sum
	}
	switch v := v.(type) {
	case string:
		sum += len(v)
	case *big.Float: // its text, in which fractions have some 160 digits more
		e := v.MantExp(nil)
		if sum += max(e, -e) / 3; !v.IsInt() {
			sum += precision / 3
		}
	case []any:
		sum += element * len(v)
		for i := 0; i < len(v) && sum <= maxMade; i++ {
			sum = weigh(v[i], sum)
		}
	case map[string]any:
		for k, e := range v {
			if sum = weigh(e, sum+element+len(k)); sum > maxMade {
				break
			}
		}
	}
	return sum
}

func (s *Scope) lookup(name string) (any, error) {
	for of := s; of != nil; of = of.parent {
		if v, ok := of.vars[name]; ok {
			return v, nil
		}
	}
	if s.Var != nil {
		if v, ok, err := s.Var(name); ok || err != nil {
			return v, err
		}
	}
	return nil, fmt.Errorf("there is no variable named %q", name)
}

func (s *Scope) function(name string) (Function, error) {
	if f := standard(name); f != nil {
		return f, nil
	}
	if s.Func != nil {
		if f, ok, err := s.Func(name); ok || err != nil {
			return f, err
		}
	}
	return nil, fmt.Errorf("there is no function named %q", name)
}
