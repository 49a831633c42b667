package forge

import (
	"fmt"
	"slices"
	"strings"
)

// cutFilter takes a value of --filter apart, KEY=VALUE.
func cutFilter(text string) (key, value string, err error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return "", "", fmt.Errorf("invalid argument %q: bad format of filter (expected name=value)", text)
	}
	return key, value, nil
}

// hasLabel reports whether labels have one, K, or K=V with that value.
func hasLabel(labels map[string]string, label string) bool {
	name, want, valued := strings.Cut(label, "=")
	have, ok := labels[name]
	return ok && (!valued || have == want)
}

// filters are docker's --filter: values by key. Those of one key are alternatives, but for labels, which must all be there; keys restrict each
// other.
type filters map[string][]string

// take reports whether something passes. match says of one value whether it does.
func (f filters) take(match func(key, value string) bool) bool {
	for key, values := range f {
		passes := func(value string) bool { return match(key, value) }
		if strings.HasPrefix(key, "label") && slices.ContainsFunc(values, func(value string) bool { return !passes(value) }) {
			return false
		}
		if !slices.ContainsFunc(values, passes) {
			return false
		}
	}
	return true
}
