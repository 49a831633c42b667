//go:build failpoint

package cache

import (
	"os"
	"testing"
)

func TestFailPoint(t *testing.T) {
	s := open(t)
	k := keyOf(Field{"a", nil})
	put(t, s, k, entry("old", 1))
	t.Setenv("FORGE_FAILPOINT", "cache.put.before-rename:error")
	if err := s.Put(t.Context(), k, entry("new", 1)); err == nil {
		t.Error("Put succeeded")
	}
	if e, ok, err := s.Get(t.Context(), k); err != nil || !ok || e.Name != "old" {
		t.Errorf("after a Put that failed: %q, %v", e.Name, ok)
	}
	if left, _ := os.ReadDir(s.dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}
