//go:build failpoint

package remote

import "testing"

// TestFailPoint: wherever a writer dies, what the index names is there, and the next writer goes on.
func TestFailPoint(t *testing.T) {
	for _, at := range []string{"remote.before-table", "remote.before-segment", "remote.before-index"} {
		s := newStore()
		a, b := layerRecord(s, "a"), layerRecord(s, "b")
		if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		t.Setenv("FORGE_FAILPOINT", at+":error")
		if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), b); err == nil {
			t.Errorf("%s: nothing failed", at)
		}
		t.Setenv("FORGE_FAILPOINT", "")
		s.resolves(t, ScopeTag("main"))
		if m := newMachine(t, s.place(), "main", nil); !m.knows(t, a) || m.knows(t, b) {
			t.Errorf("%s: what was there is gone, or what was not written is there", at)
		}
		if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), b); err != nil {
			t.Errorf("%s: the next writer: %v", at, err)
		}
	}
}
