package hcl

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// asSet makes a list one of a set: sorted, each value once.
func asSet(list []any) []any {
	out := distinct(list)
	slices.SortStableFunc(out, func(a, b any) int {
		x, xok := a.(*big.Float)
		y, yok := b.(*big.Float)
		if xok && yok {
			return x.Cmp(y)
		}
		s, _ := String(a)
		t, _ := String(b)
		return strings.Compare(s, t)
	})
	return out
}

// sets is a function of lists that are sets; keep says of a value in how many of them it is.
func sets(keep func(in, of int) bool) signature {
	return signature{1, -1, func(args []any) (any, error) {
		var all []any
		in := map[string]int{} // how many of the lists a value is in
		for _, v := range args {
			list, err := List(v)
			if err != nil {
				return nil, err
			}
			list = distinct(list)
			for _, v := range list {
				in[keyOf(v)]++
			}
			all = append(all, list...)
		}
		return slices.DeleteFunc(asSet(all), func(v any) bool { return !keep(in[keyOf(v)], len(args)) }), nil
	}}
}

func setFunctions() map[string]signature {
	return map[string]signature{
		"sethaselement": {2, 2, func(args []any) (any, error) {
			list, err := List(args[0])
			return slices.ContainsFunc(list, func(v any) bool { return equal(v, args[1]) }), err
		}},
		"setunion":               sets(func(_, _ int) bool { return true }),
		"setintersection":        sets(func(in, of int) bool { return in == of }),
		"setsymmetricdifference": sets(func(in, _ int) bool { return in%2 == 1 }),
		"setsubtract": {2, 2, func(args []any) (any, error) {
			a, err := List(args[0])
			if err != nil {
				return nil, err
			}
			b, err := List(args[1])
			without := map[string]bool{}
			for _, v := range b {
				without[keyOf(v)] = true
			}
			return slices.DeleteFunc(asSet(a), func(v any) bool { return without[keyOf(v)] }), err
		}},
		"setproduct": {1, -1, setProduct},
	}
}

func setProduct(args []any) (any, error) {
	if len(args) > maxDepth {
		return nil, fmt.Errorf("is given more than %d lists", maxDepth)
	}
	out := [][]any{{}}
	for _, v := range args {
		list, err := List(v)
		if err != nil {
			return nil, err
		}
		if len(out)*len(list) > 1<<16 {
			return nil, errors.New("has more than 65536 elements")
		}
		var next [][]any
		for _, o := range out {
			for _, e := range list {
				next = append(next, append(slices.Clone(o), e))
			}
		}
		out = next
	}
	return anys(out), nil
}
