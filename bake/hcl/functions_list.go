package hcl

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
)

func collection(v any) (n int, err error) {
	switch v := v.(type) {
	case []any:
		return len(v), nil
	case map[string]any:
		return len(v), nil
	}
	return 0, fmt.Errorf("must be a list or a map, and is %s", kind(v))
}

func listFunctions() map[string]signature {
	return map[string]signature{
		"length": {1, 1, func(args []any) (any, error) {
			n, err := collection(args[0])
			return integer(n), err
		}},
		"concat":       {1, -1, concat},
		"compact":      {1, 1, compact},
		"chunklist":    {2, 2, chunkList},
		"coalesce":     {1, -1, coalesce},
		"coalescelist": {1, -1, coalesceList},
		"contains": {2, 2, func(args []any) (any, error) {
			list, err := List(args[0])
			return slices.ContainsFunc(list, func(v any) bool { return equal(v, args[1]) }), err
		}},
		"distinct": {1, 1, func(args []any) (any, error) {
			list, err := List(args[0])
			return distinct(list), err
		}},
		"element": {2, 2, element},
		"flatten": {1, 1, func(args []any) (any, error) {
			list, err := List(args[0])
			return flatten(list, 0), err
		}},
		"hasindex": {2, 2, func(args []any) (any, error) {
			_, err := Index(args[0], args[1])
			return err == nil, nil
		}},
		"index": {2, 2, func(args []any) (any, error) { return Index(args[0], args[1]) }},
		"indexof": {2, 2, func(args []any) (any, error) {
			list, err := List(args[0])
			if err != nil {
				return nil, err
			}
			i := slices.IndexFunc(list, func(v any) bool { return equal(v, args[1]) })
			if i < 0 {
				return nil, errors.New("item not found")
			}
			return integer(i), nil
		}},
		"range": {1, 3, ranged},
		"reverselist": {1, 1, func(args []any) (any, error) {
			list, err := List(args[0])
			list = slices.Clone(list)
			slices.Reverse(list)
			return list, err
		}},
		"slice": {3, 3, slice},
		"sort": {1, 1, func(args []any) (any, error) {
			list, err := List(args[0])
			if err != nil {
				return nil, err
			}
			all, err := stringsOf(list)
			slices.Sort(all)
			return anys(all), err
		}},
	}
}

func concat(args []any) (any, error) {
	all := []any{}
	for _, v := range args {
		list, err := List(v)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func compact(args []any) (any, error) {
	list, err := List(args[0])
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(list), func(v any) bool { return v == nil || v == "" }), nil
}

func chunkList(args []any) (any, error) {
	list, err := List(args[0])
	if err != nil {
		return nil, err
	}
	n, err := Int(args[1])
	if err != nil || n < 0 {
		return nil, errors.New("the size of chunks must be an integer of at least 0")
	}
	if n == 0 {
		n = max(1, len(list))
	}
	out := []any{}
	for chunk := range slices.Chunk(list, n) {
		out = append(out, slices.Clone(chunk))
	}
	return out, nil
}

// coalesce is the first argument that is not null, as a string where some argument is one.
func coalesce(args []any) (any, error) {
	text := slices.ContainsFunc(args, func(v any) bool { _, ok := v.(string); return ok })
	for _, v := range args {
		if v == nil {
			continue
		}
		if text {
			return String(v)
		}
		return v, nil
	}
	return nil, errors.New("all arguments are null")
}

func coalesceList(args []any) (any, error) {
	for _, v := range args {
		list, err := List(v)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			return list, nil
		}
	}
	return nil, errors.New("all lists are empty")
}

func distinct(list []any) []any {
	out, seen := []any{}, map[string]bool{}
	for _, v := range list {
		key := keyOf(v)
		if !seen[key] {
			seen[key] = true
			out = append(out, v)
		}
	}
	return out
}

// keyOf is a text that values have in common which are the same, and no others.
func keyOf(v any) string {
	key, _ := encode(v) // values of files can all be encoded
	return string(key)
}

func element(args []any) (any, error) {
	list, err := List(args[0])
	if err != nil {
		return nil, err
	}
	i, err := Int(args[1])
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("the list is empty")
	}
	return list[((i%len(list))+len(list))%len(list)], nil
}

func flatten(list []any, depth int) []any {
	out := []any{}
	for _, v := range list {
		if inner, ok := v.([]any); ok && depth < maxDepth {
			out = append(out, flatten(inner, depth+1)...)
		} else {
			out = append(out, v)
		}
	}
	return out
}

// maxRange is how many elements a range may have, as in HCL.
const maxRange = 1024

func ranged(args []any) (any, error) {
	var n [3]*big.Float
	for i, v := range args {
		var err error
		if n[i], err = Number(v); err != nil {
			return nil, err
		}
	}
	start, end, step := integer(0), n[0], n[2]
	if len(args) > 1 {
		start, end = n[0], n[1]
	}
	down := end.Cmp(start) < 0
	if step == nil {
		step = integer(1)
		if down {
			step = integer(-1)
		}
	}
	if step.Sign() == 0 || down != (step.Sign() < 0) && end.Cmp(start) != 0 {
		return nil, errors.New("the step does not lead from the start to the end")
	}
	out := []any{}
	for v := start; v.Cmp(end)*step.Sign() < 0; v = number().Add(v, step) {
		if len(out) == maxRange {
			return nil, fmt.Errorf("has more than %d elements", maxRange)
		}
		out = append(out, v)
	}
	return out, nil
}

func slice(args []any) (any, error) {
	list, err := List(args[0])
	if err != nil {
		return nil, err
	}
	from, err := Int(args[1])
	if err != nil {
		return nil, err
	}
	to, err := Int(args[2])
	if err != nil {
		return nil, err
	}
	if from < 0 || to < from || to > len(list) {
		return nil, fmt.Errorf("the list has %d elements, and %d to %d are none of it", len(list), from, to)
	}
	return slices.Clone(list[from:to]), nil
}

func mapFunctions() map[string]signature {
	return map[string]signature{
		"keys": {1, 1, func(args []any) (any, error) {
			m, err := Map(args[0])
			return anys(sortedKeys(m)), err
		}},
		"values": {1, 1, func(args []any) (any, error) {
			m, err := Map(args[0])
			out := []any{}
			for _, k := range sortedKeys(m) {
				out = append(out, m[k])
			}
			return out, err
		}},
		"lookup": {2, 3, func(args []any) (any, error) {
			m, err := Map(args[0])
			if err != nil {
				return nil, err
			}
			k, err := String(args[1])
			if v, ok := m[k]; ok || err != nil {
				return v, err
			}
			if len(args) == 2 {
				return nil, fmt.Errorf("there is no %q", k)
			}
			return args[2], nil
		}},
		"merge": {0, -1, func(args []any) (any, error) {
			out := map[string]any{}
			for _, v := range args {
				if v == nil {
					continue
				}
				m, err := Map(v)
				if err != nil {
					return nil, err
				}
				for k, v := range m {
					out[k] = v
				}
			}
			return out, nil
		}},
		"zipmap": {2, 2, zipMap},
	}
}

func zipMap(args []any) (any, error) {
	keys, err := List(args[0])
	if err != nil {
		return nil, err
	}
	names, err := stringsOf(keys)
	if err != nil {
		return nil, err
	}
	values, err := List(args[1])
	if err == nil && len(values) != len(names) {
		err = fmt.Errorf("has %d keys and %d values", len(names), len(values))
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for i, k := range names {
		out[k] = values[i]
	}
	return out, nil
}
