package forge

import (
	"fmt"
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
