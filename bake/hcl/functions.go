package hcl

import (
	"errors"
	"fmt"
	"math/big"
)

// A call is a function of values.
type call func(args []any) (any, error)

// A signature is a call with how many arguments it takes.
type signature struct {
	least, most int // most is -1 where there is no limit
	call
}

// standard is the function of bake's standard library that has a name, nil if none has.
func standard(name string) Function {
	switch name {
	case "try":
		return try
	case "can":
		return func(s *Scope, args []*Expr) (any, error) {
			if len(args) != 1 {
				return nil, errors.New("takes one argument")
			}
			_, err := args[0].Value(s)
			return err == nil, nil
		}
	case "convert":
		return convert
	}
	for _, group := range []map[string]signature{textFunctions(), patternFunctions(), numberFunctions(), listFunctions(), setFunctions(), mapFunctions(), codeFunctions(), timeFunctions()} {
		if f, ok := group[name]; ok {
			return Values(f.checked)
		}
	}
	return nil
}

// checked calls the function if the number of its arguments is right.
func (f signature) checked(args []any) (any, error) {
	switch {
	case len(args) < f.least:
		return nil, fmt.Errorf("takes at least %d arguments, and is given %d", f.least, len(args))
	case f.most >= 0 && len(args) > f.most:
		return nil, fmt.Errorf("takes at most %d arguments, and is given %d", f.most, len(args))
	}
	return f.call(args)
}

// try is the first argument that can be evaluated.
func try(s *Scope, args []*Expr) (any, error) {
	var errs []error
	for _, a := range args {
		v, err := a.Value(s)
		if err == nil {
			return v, nil
		}
		errs = append(errs, err)
	}
	if len(args) == 0 {
		return nil, errors.New("takes at least one argument")
	}
	return nil, fmt.Errorf("no argument can be evaluated: %w", errors.Join(errs...))
}

// convert makes a value one of a type, which is written as in a variable's type.
func convert(s *Scope, args []*Expr) (any, error) {
	if len(args) != 2 {
		return nil, errors.New("takes a value and a type")
	}
	t, err := ParseType(args[1].Text)
	if err != nil {
		return nil, err
	}
	v, err := args[0].Value(s)
	if err == nil {
		err = s.made(v)
	}
	if err != nil {
		return nil, err
	}
	return t.Convert(v)
}

// text is a function of one string.
func text(f func(string) string) signature {
	return signature{1, 1, func(args []any) (any, error) {
		s, err := String(args[0])
		return f(s), err
	}}
}

// texts is a function of several strings.
func texts(n int, f func([]string) (any, error)) signature {
	return signature{n, n, func(args []any) (any, error) {
		all, err := stringsOf(args)
		if err != nil {
			return nil, err
		}
		return f(all)
	}}
}

func stringsOf(list []any) ([]string, error) {
	all := make([]string, len(list))
	for i, v := range list {
		var err error
		if all[i], err = String(v); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func anys[T any](list []T) []any {
	all := make([]any, len(list))
	for i, v := range list {
		all[i] = v
	}
	return all
}

// numbers is a function of several numbers.
func numbers(n int, f func([]*big.Float) (any, error)) signature {
	return signature{n, n, func(args []any) (any, error) {
		all := make([]*big.Float, len(args))
		for i, v := range args {
			var err error
			if all[i], err = Number(v); err != nil {
				return nil, err
			}
		}
		return f(all)
	}}
}

func operator(op string) signature {
	return signature{2, 2, func(args []any) (any, error) { return arithmetic(op, args[0], args[1]) }}
}

func logical(f func(a, b bool) bool) signature {
	return signature{2, 2, func(args []any) (any, error) {
		a, err := Bool(args[0])
		if err != nil {
			return nil, err
		}
		b, err := Bool(args[1])
		return f(a, b), err
	}}
}

func numberFunctions() map[string]signature {
	return map[string]signature{
		"absolute": numbers(1, func(n []*big.Float) (any, error) { return number().Abs(n[0]), nil }),
		"negate":   numbers(1, func(n []*big.Float) (any, error) { return number().Neg(n[0]), nil }),
		"add":      operator("+"), "subtract": operator("-"), "multiply": operator("*"), "divide": operator("/"), "modulo": operator("%"),
		"greaterthan": operator(">"), "greaterthanorequalto": operator(">="), "lessthan": operator("<"), "lessthanorequalto": operator("<="),
		"and": logical(func(a, b bool) bool { return a && b }),
		"or":  logical(func(a, b bool) bool { return a || b }),
		"not": {1, 1, func(args []any) (any, error) {
			b, err := Bool(args[0])
			return !b, err
		}},
		"equal":    {2, 2, func(args []any) (any, error) { return equal(args[0], args[1]), nil }},
		"notequal": {2, 2, func(args []any) (any, error) { return !equal(args[0], args[1]), nil }},
		"ceil":     numbers(1, func(n []*big.Float) (any, error) { return round(n[0], 1), nil }),
		"floor":    numbers(1, func(n []*big.Float) (any, error) { return round(n[0], -1), nil }),
		"int":      numbers(1, func(n []*big.Float) (any, error) { return round(n[0], -n[0].Sign()), nil }),
		"signum":   numbers(1, func(n []*big.Float) (any, error) { return integer(n[0].Sign()), nil }),
		"max":      extreme(1), "min": extreme(-1),
		"pow": numbers(2, func(n []*big.Float) (any, error) { return pow(n[0], n[1]) }),
		"log": numbers(2, func(n []*big.Float) (any, error) { return logarithm(n[0], n[1]) }),
		"parseint": {2, 2, func(args []any) (any, error) {
			s, err := String(args[0])
			if err != nil {
				return nil, err
			}
			base, err := Int(args[1])
			if err != nil || base < 2 || base > 62 {
				return nil, errors.New("the base must be from 2 to 62")
			}
			n, ok := new(big.Int).SetString(s, base)
			if !ok {
				return nil, fmt.Errorf("%q is no integer of base %d", s, base)
			}
			return within(number().SetInt(n))
		}},
	}
}

// round is the whole number next to n: above it if up is positive, below it if up is negative.
func round(n *big.Float, up int) *big.Float {
	whole, accuracy := n.Int(nil)
	v := number().SetInt(whole)
	switch {
	case up > 0 && accuracy == big.Below:
		v.Add(v, integer(1))
	case up < 0 && accuracy == big.Above:
		v.Sub(v, integer(1))
	}
	return v
}

func extreme(sign int) signature {
	return signature{1, -1, func(args []any) (any, error) {
		var best *big.Float
		for _, v := range args {
			n, err := Number(v)
			if err != nil {
				return nil, err
			}
			if best == nil || n.Cmp(best)*sign > 0 {
				best = n
			}
		}
		return best, nil
	}}
}
