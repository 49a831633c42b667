package runtime

import "testing"

// A thread that waits where SIGKILL would reach it, as in vfork(2), is in state D, too: it is stuck only once it was killed.
func TestWasKilled(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tvf\nState:\tD (disk sleep)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n": false,
		"Name:\tvf\nState:\tD (disk sleep)\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n": true,
		"Name:\tvf\n": false,
	} {
		if got := wasKilled([]byte(status)); got != want {
			t.Errorf("%q: %t", status, got)
		}
	}
}
