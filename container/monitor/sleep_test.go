package monitor

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge/container/logs"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/runtime"
)

// TestSleep: a monitor does not sleep while somebody is connected or something that was typed is on its way, and who comes while
// it tries to is served afterwards.
func TestSleep(t *testing.T) {
	t.Parallel()
	var slept atomic.Int32
	var was Memory
	passed := make(chan struct{})
	config := Config{Stdin: true, Sleep: func(_ time.Duration, remember func() (Memory, bool)) error {
		slept.Add(1)
		was, _ = remember()
		return ErrBusy
	}}
	k := startWith(t, config, nil, nil, func(io2 runtime.Stdio, signals <-chan os.Signal) int {
		_, _ = io.ReadFull(io2.In, make([]byte, 6))
		<-passed
		go func() { _, _ = io2.In.Read(make([]byte, 1)) }() // back for more
		return untilTerm(io2, signals)
	})
	m := k.monitor
	attached, err := k.dial()
	if err != nil {
		t.Fatal(err)
	}
	if err := request(attached, verbAttach, 1, 1, 1, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(attached, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := m.sleep(); !errors.Is(err, ErrBusy) || slept.Load() != 0 {
		t.Errorf("slept with somebody connected: %v", err)
	}
	if err := writeFrame(attached, frame{streamIn, []byte("typed\n")}); err != nil {
		t.Fatal(err)
	}
	attached.Close()
	for m.door.now.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	if err := m.sleep(); !errors.Is(err, ErrBusy) || slept.Load() != 0 {
		t.Errorf("slept while what was typed was on its way: %v", err)
	}
	close(passed)
	for slept.Load() == 0 {
		_ = m.sleep()
		time.Sleep(time.Millisecond)
	}
	if was.Delay != firstDelay || was.Stopped || was.NoInput {
		t.Errorf("remembered: %+v", was)
	}
	if err := k.Stop(t.Context(), syscall.SIGTERM, 10); err != nil {
		t.Errorf("who comes after that: %v", err)
	}
	if run := k.ended(); run.ExitCode != 3 {
		t.Errorf("ended: %+v", run)
	}
}

// TestRecall: a monitor that wakes goes on with the run, tells nobody of a start but its owner, and knows what the one before did.
func TestRecall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, err := logs.Open(dir+"/log", logs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var events []string
	began := time.Now().Add(-time.Hour).UTC()
	run := &state.Run{Started: began, Health: &state.Health{Status: healthy}}
	p := &fake{signals: make(chan os.Signal), done: make(chan struct{}), exit: runtime.Exit{Code: 4}}
	m := New(Config{
		Memory: &Memory{
			Asleep: clock() - time.Minute, Age: time.Second, Delay: 4 * firstDelay, Stopped: true,
			Log: logs.Memory{Text: [2][]byte{[]byte("be")}},
		},
		Start: func(_ context.Context, io runtime.Stdio, _ *state.Run, _ Size) (Process, error) {
			_, _ = io.Out.Write([]byte("gun\n"))
			close(p.done)
			return p, nil
		},
		Record: func(*state.Run) error { return nil },
		Event:  func(action string, _ ...string) { events = append(events, action) },
		Done:   func() {},
		Policy: func() Policy { return Policy{Name: "always"} },
		Log:    log,
	}, run)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	var taken bool
	exit, err := m.Keep(t.Context(), l, func() { taken = true })
	if err != nil || !taken || exit.Code != 4 || !run.Started.Equal(began) || run.ExitCode != 4 {
		t.Errorf("%+v, %v, run %+v", exit, err, run)
	}
	if len(events) != 1 || events[0] != "die" {
		t.Errorf("events %v", events)
	}
	if age := time.Since(m.schedule.began); age < time.Minute || m.schedule.delay != 4*firstDelay {
		t.Errorf("the run is %s old, the next delay %s", age, m.schedule.delay)
	}
	text, err := os.ReadFile(dir + "/log")
	if err != nil || len(text) < 20 || string(text[:16]) != `{"log":"begun\n"` {
		t.Errorf("log %s, %v", text, err)
	}
}
