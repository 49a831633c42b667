package forge

import (
	"fmt"
	"testing"
)

// TestWhyMade holds that a target made from one that has changed has changed too, and that each target is looked at once: there are two ways
// down from each of forty levels.
func TestWhyMade(t *testing.T) {
	b := &building{}
	for i := range 41 {
		for _, side := range []string{"a", "b"} {
			m := &making{Target: Target{Name: fmt.Sprint(side, i), From: map[string]string{}}}
			if i < 40 {
				m.From["x"], m.From["y"] = fmt.Sprint("a", i+1), fmt.Sprint("b", i+1)
			}
			b.targets = append(b.targets, m)
		}
	}
	by := b.byName()
	if why := by["a0"].whyMade(by, map[string]string{}, map[string]string{}); why != "" {
		t.Errorf("nothing has changed, and a0 is built: %s", why)
	}
	why := by["a39"].whyMade(by, map[string]string{"b40": "x has changed"}, map[string]string{})
	if want := "is made from b40, of which x has changed"; why != want {
		t.Errorf("a39 %s, want %s", why, want)
	}
}
