//go:build failpoint

package local

import (
	"strings"
	"testing"
)

func TestFailPoints(t *testing.T) {
	for _, name := range []string{"local.run.before-commit", "executor.publish.before-put"} {
		h := newRunHome(t)
		t.Setenv("FORGE_FAILPOINT", name+":error")
		_, _, err := h.do(sh("echo x > /x"))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error = %v, want that of %s", err, name)
		}
		t.Setenv("FORGE_FAILPOINT", "")
		if r, _, err := h.do(sh("echo x > /x")); err != nil || r.Done != 1 {
			t.Errorf("after %s: %v, %v", name, r, err)
		}
	}
}
