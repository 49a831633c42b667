package hcl

import (
	"fmt"
	"testing"
)

// TestSets: sets of many values are compared in the time of a look at each; the pairs of these would take minutes.
func TestSets(t *testing.T) {
	var a, b []any
	for i := range 50_000 {
		a, b = append(a, fmt.Sprint(i)), append(b, fmt.Sprint(i+49_998))
	}
	for _, test := range []struct {
		name string
		args []any
		want int
	}{
		{"setintersection", []any{a, b}, 2},
		{"setintersection", []any{a, a, b}, 2},
		{"setunion", []any{a, b, b}, 99_998},
		{"setsymmetricdifference", []any{a, b}, 99_996},
		{"setsubtract", []any{a, b}, 49_998},
	} {
		v, err := setFunctions()[test.name].call(test.args)
		if list, _ := v.([]any); err != nil || len(list) != test.want {
			t.Errorf("%s has %d elements, want %d; error %v", test.name, len(list), test.want, err)
		}
	}
}
