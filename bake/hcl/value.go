package hcl

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// precision is that of numbers, in bits.
const precision = 512

// maxExponent bounds how large numbers may get, and how close to 0, in bits: their texts have some 20,000 digits at most.
const maxExponent = 1 << 16

// within refuses numbers that are out of bounds.
func within(n *big.Float) (*big.Float, error) {
	if e := n.MantExp(nil); n.IsInf() || e > maxExponent || e < -maxExponent {
		return nil, errors.New("the number has too many digits")
	}
	return n, nil
}

func number() *big.Float { return new(big.Float).SetPrec(precision) }

func integer(n int) *big.Float { return number().SetInt64(int64(n)) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// kind says what a value is, for people.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a bool"
	case *big.Float:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("%T", v)
}

// String makes a string of a value, as HCL does where one is needed.
func String(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return fmt.Sprint(v), nil
	case *big.Float:
		return v.Text('f', -1), nil
	}
	return "", fmt.Errorf("must be a string, and is %s", kind(v))
}

// Number makes a number of a value.
func Number(v any) (*big.Float, error) {
	switch v := v.(type) {
	case *big.Float:
		return v, nil
	case string:
		n, err := parseNumber(v)
		if err != nil {
			return nil, fmt.Errorf("must be a number, and is %q", v)
		}
		return n, nil
	}
	return nil, fmt.Errorf("must be a number, and is %s", kind(v))
}

// Int makes an integer of a value.
func Int(v any) (int, error) {
	n, err := Number(v)
	if err != nil {
		return 0, err
	}
	i, exact := n.Int64()
	if exact != big.Exact || int64(int(i)) != i {
		return 0, fmt.Errorf("must be an integer, and is %s", n.Text('f', -1))
	}
	return int(i), nil
}

// Bool makes a bool of a value.
func Bool(v any) (bool, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case string:
		switch v {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
		return false, fmt.Errorf("must be true or false, and is %q", v)
	}
	return false, fmt.Errorf("must be true or false, and is %s", kind(v))
}

// List makes a list of a value.
func List(v any) ([]any, error) {
	if list, ok := v.([]any); ok {
		return list, nil
	}
	return nil, fmt.Errorf("must be a list, and is %s", kind(v))
}

// Map makes a map of a value.
func Map(v any) (map[string]any, error) {
	if m, ok := v.(map[string]any); ok {
		return m, nil
	}
	return nil, fmt.Errorf("must be a map, and is %s", kind(v))
}

// equal reports whether two values are the same; those of different kinds are not.
func equal(a, b any) bool {
	switch a := a.(type) {
	case *big.Float:
		b, ok := b.(*big.Float)
		return ok && a.Cmp(b) == 0
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, equal)
	}
	switch b.(type) {
	case []any, map[string]any:
		return false
	}
	return a == b
}

// operate does a binary operator.
func operate(s *Scope, op string, left, right *Expr) (any, error) {
	a, err := left.Value(s)
	if err != nil {
		return nil, err
	}
	if op == "||" || op == "&&" {
		return logic(s, op, a, right)
	}
	b, err := right.Value(s)
	if err != nil {
		return nil, err
	}
	if op == "==" || op == "!=" {
		if err := s.made([]any{a, b}); err != nil {
			return nil, err
		}
		return equal(a, b) == (op == "=="), nil
	}
	return arithmetic(op, a, b)
}

func logic(s *Scope, op string, a any, right *Expr) (any, error) {
	x, err := Bool(a)
	if err != nil {
		return nil, err
	}
	b, err := right.Value(s)
	if err != nil {
		return nil, err
	}
	y, err := Bool(b)
	if op == "||" {
		return x || y, err
	}
	return x && y, err
}

// arithmetic does an operator on numbers.
func arithmetic(op string, a, b any) (any, error) {
	x, err := Number(a)
	if err != nil {
		return nil, err
	}
	y, err := Number(b)
	if err != nil {
		return nil, err
	}
	switch op {
	case ">":
		return x.Cmp(y) > 0, nil
	case "<":
		return x.Cmp(y) < 0, nil
	case ">=":
		return x.Cmp(y) >= 0, nil
	case "<=":
		return x.Cmp(y) <= 0, nil
	case "+":
		return within(number().Add(x, y))
	case "-":
		return within(number().Sub(x, y))
	case "*":
		return within(number().Mul(x, y))
	}
	if y.Sign() == 0 {
		return nil, errors.New("divides by zero")
	}
	if op == "/" {
		return within(number().Quo(x, y))
	}
	whole, _ := number().Quo(x, y).Int(nil)
	return number().Sub(x, number().Mul(y, number().SetInt(whole))), nil
}

// member is an element of a list or map.
func member(s *Scope, of *Expr, key any) (any, error) {
	v, err := of.Value(s)
	if err != nil {
		return nil, err
	}
	return Index(v, key)
}

// Lazy is an object whose members are found when somebody asks for them; ok is whether there is such a member.
type Lazy func(name string) (v any, ok bool, err error)

// Index is the element of a list or a map under a key.
func Index(v, key any) (any, error) {
	switch v := v.(type) {
	case []any:
		i, err := Int(key)
		if err != nil {
			return nil, fmt.Errorf("the index of a list %w", err)
		}
		if i < 0 || i >= len(v) {
			return nil, fmt.Errorf("the list has %d elements, and none with the index %d", len(v), i)
		}
		return v[i], nil
	case map[string]any:
		k, err := String(key)
		if err != nil {
			return nil, fmt.Errorf("the key of an object %w", err)
		}
		found, ok := v[k]
		if !ok {
			return nil, fmt.Errorf("there is no %q: there are %s", k, strings.Join(sortedKeys(v), ", "))
		}
		return found, nil
	case Lazy:
		k, err := String(key)
		if err != nil {
			return nil, fmt.Errorf("the key of an object %w", err)
		}
		found, ok, err := v(k)
		if !ok && err == nil {
			err = fmt.Errorf("there is no %q", k)
		}
		return found, err
	}
	return nil, fmt.Errorf("%s has no elements", kind(v))
}
