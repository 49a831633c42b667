package monitor

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/runtime"
)

// TestSignalWhileStarting: a signal that comes when the command runs and that is not yet known waits, and reaches the command, also the one that
// asks the container to end.
func TestSignalWhileStarting(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		f := &fake{signals: make(chan os.Signal), done: make(chan struct{})}
		begun, known := make(chan struct{}), make(chan struct{})
		m := New(Config{
			StopSignal: syscall.SIGTERM,
			Start: func(context.Context, runtime.Stdio, *state.Run, Size) (Process, error) {
				close(begun)
				<-known
				return f, nil
			},
			Record: func(*state.Run) error { return nil },
			Event:  func(string, ...string) {},
			Done:   func() {},
		}, &state.Run{})
		kept := make(chan error, 1)
		go func() {
			_, err := m.Keep(t.Context(), nil, func() {})
			kept <- err
		}()
		<-begun
		sent := make(chan error, 1)
		go func() { sent <- m.signal(sig) }()
		select {
		case err := <-sent:
			t.Fatalf("%v does not wait: %v", sig, err)
		case <-time.After(20 * time.Millisecond): // else it may not have been tried yet, which is no error
		}
		close(known)
		if got := <-f.signals; got != sig {
			t.Errorf("the command gets %v, want %v", got, sig)
		}
		close(f.done)
		if err := <-kept; err != nil {
			t.Error(err)
		}
	}
}
