package forge

import (
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReadyMonitorBegins: a monitor that was killed before it read that its container is to be started is told from one that read it, so that
// another is started, and one that does neither is not waited for longer than the caller waits.
func TestReadyMonitorBegins(t *testing.T) {
	for name, test := range map[string]struct {
		reads, ends, begun bool
	}{"reads": {true, true, true}, "killed before": {false, true, false}, "does nothing": {false, false, false}} {
		ours, theirs, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		reports, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		m := &ReadyMonitor{pid: 1, conn: ours, reports: reports}
		if err := m.For(noContainer); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, _, err := m.begin(ctx, []*os.File{w})
			done <- err
		}()
		read := make([]byte, len(noContainer)+len(helperReady))
		for there := 0; there < len(read); { // all is written
			if there, err = unix.IoctlGetInt(int(theirs.Fd()), unix.TIOCINQ); err != nil {
				t.Fatal(err)
			}
		}
		for n, got := 0, 0; test.reads && got < len(read); got += n {
			if n, err = theirs.Read(read[got:]); err != nil {
				t.Fatal(err)
			}
		}
		if test.ends {
			theirs.Close()
		} else {
			cancel()
		}
		if err := <-done; (err == nil) != test.begun {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		theirs.Close()
		w.Close()
		reports.Close()
	}
}
