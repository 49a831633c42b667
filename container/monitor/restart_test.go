package monitor

import (
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge/runtime"
)

// TestRestartByUser: a run that a user ends to begin another is followed by one, without a restart policy; what waits for the
// time of its next run does not wait longer; and the count begins anew.
func TestRestartByUser(t *testing.T) {
	t.Parallel()
	k := start(t, Config{}, untilTerm)
	results := make(chan error, 3)
	for range cap(results) { // together they get one run or several
		go func() { results <- k.Restart(t.Context(), syscall.SIGTERM, 10) }()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Errorf("restart: %v", err)
		}
	}
	if err := k.Restart(t.Context(), syscall.SIGHUP, 0); err != nil {
		t.Errorf("restart of what does not obey: %v", err)
	}
	if run := k.last(); !run.Started.After(run.Finished) || run.Restarts != 0 || run.Stopped || run.ExitCode != 0 {
		t.Errorf("after the restart: %+v", run)
	}
	if err := k.Stop(t.Context(), syscall.SIGTERM, 10); err != nil {
		t.Fatal(err)
	}
	k.ended()
	k.mu.Lock()
	if end := k.events[len(k.events)-4:]; !slices.Contains(k.events, "restart") || !slices.Equal(end, []string{"restart", "kill", "die", "stop"}) {
		t.Errorf("events: %q", k.events)
	}
	k.mu.Unlock()
	if err := k.Restart(t.Context(), syscall.SIGTERM, 10); !errors.Is(err, ErrGone) {
		t.Errorf("restart of what has ended: %v", err)
	}

	var runs atomic.Int32
	often := make(chan struct{})
	k = start(t, Config{Policy: func() Policy { return Policy{Name: "always"} }}, func(io runtime.Stdio, signals <-chan os.Signal) int {
		if runs.Add(1) <= 4 {
			return 1
		}
		close(often)
		return untilTerm(io, signals)
	})
	for runs.Load() < 4 { // from here on the policy waits for the better part of a second
		_, _ = k.Wait(t.Context())
	}
	if err := k.Restart(t.Context(), syscall.SIGTERM, 10); err != nil {
		t.Errorf("restart of what is about to be restarted: %v", err)
	}
	<-often
	if run := k.last(); run.Restarts != 0 || !run.Retry.IsZero() {
		t.Errorf("restarted before its time: %+v", run)
	}
	if err := k.Stop(t.Context(), syscall.SIGTERM, 10); err != nil {
		t.Error(err)
	}
	k.ended()
}

// TestRestartStopped: what was told to end, and has not, is restarted by who asks for that afterwards; who waits for the end gets the status of the run that
// has ended; and one that waits for its restart can be killed.
func TestRestartStopped(t *testing.T) {
	t.Parallel()
	var runs atomic.Int32
	k := start(t, Config{}, func(_ runtime.Stdio, signals <-chan os.Signal) int {
		n := runs.Add(1)
		for sig := range signals {
			if sig == syscall.SIGKILL {
				return 40 + int(n)
			}
		}
		return 0
	})
	if err := k.Signal(t.Context(), syscall.SIGTERM); err != nil { // which it survives
		t.Fatal(err)
	}
	ended, code := k.monitor.ending()
	if err := k.Restart(t.Context(), syscall.SIGTERM, 0); err != nil {
		t.Errorf("restart: %v", err)
	}
	if <-ended; *code != 41 {
		t.Errorf("who waited got %d", *code)
	}
	if err := k.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if run := k.ended(); run.ExitCode != 42 || !run.Stopped {
		t.Errorf("at last: %+v", run)
	}

	k = start(t, Config{Policy: func() Policy { return Policy{Name: "always"} }}, func(runtime.Stdio, <-chan os.Signal) int { return 3 })
	for k.last().Restarts < 3 { // from here on it waits for the better part of a second
		time.Sleep(time.Millisecond)
	}
	for k.last().Retry.IsZero() {
		time.Sleep(time.Millisecond)
	}
	if err := k.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Errorf("kill of what waits for its restart: %v", err)
	}
	if run := k.ended(); run.ExitCode != 3 {
		t.Errorf("at last: %+v", run)
	}
}
