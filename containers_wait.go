package forge

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/event/journal"
)

// A WaitCondition is what is waited for, in docker's words.
type WaitCondition string

// The conditions.
const (
	WaitNotRunning WaitCondition = "not-running" // that it does not run; at once if it does not
	WaitNextExit   WaitCondition = "next-exit"   // the end of the run that goes on, or of the next
	WaitRemoved    WaitCondition = "removed"     // that it is gone
)

// errWaited ends the reading of events.
var errWaited = errors.New("it has come")

// WaitContainerFor waits until something has become of a container, and returns the exit status of its last run. ready is called when
// nothing that happens from then on is missed; it may be nil.
func (h *Home) WaitContainerFor(ctx context.Context, ref string, c WaitCondition, ready func()) (int, error) {
	since := time.Now() // before it is found: it may be gone right after
	r, run, status, err := h.findRun(ref)
	if err != nil {
		return 0, err
	}
	if ready != nil {
		ready()
	}
	switch {
	case c == WaitNotRunning && (status.Alive() || status == state.Restarting):
		return h.waitRun(ctx, r, since)
	case c == WaitNotRunning:
		return run.ExitCode, nil
	}
	w := waiting{home: h, record: r, condition: c, code: run.ExitCode}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if status.Alive() || status == state.Restarting {
		go w.watch(ctx, stop)
	}
	q := EventQuery{Since: since, Filter: journal.Filter{"container": {r.ID}}}
	err = h.Events(ctx, q, func(m EventMessage) error {
		switch {
		case m.Action == "start":
			go w.watch(ctx, stop)
		case m.Action == "die":
			w.code, _ = strconv.Atoi(m.Actor.Attributes["exitCode"])
			if c == WaitNextExit {
				return errWaited
			}
		case m.Action == "destroy":
			return errWaited
		}
		return nil
	})
	if ended, ok := errors.AsType[endedError](err); ok {
		return int(ended), nil
	}
	if errors.Is(err, errWaited) {
		err = nil
	}
	return w.code, err
}

// waitRun waits for the end of a run that went on at a time, and returns its exit status. A container that is removed when it ends may be gone by
// now: then an event tells it.
func (h *Home) waitRun(ctx context.Context, r *containerRecord, since time.Time) (code int, err error) {
	code, err = h.monitorOf(r).Wait(ctx)
	if !errors.Is(err, monitor.ErrGone) {
		return code, err
	}
	run, _, err := h.containers().Run(r.ID)
	if err == nil {
		return run.ExitCode, nil
	}
	q := EventQuery{Since: since, Until: time.Now(), Filter: journal.Filter{"container": {r.ID}, "event": {"die"}}}
	told := false
	eventsErr := h.Events(ctx, q, func(m EventMessage) (err error) {
		code, err = strconv.Atoi(m.Actor.Attributes["exitCode"])
		told = err == nil
		return err
	})
	if !told {
		return 0, errors.Join(err, eventsErr)
	}
	return code, eventsErr
}

// waiting is one who waits.
type waiting struct {
	home      *Home
	record    *containerRecord
	condition WaitCondition
	code      int
}

// An endedError ends the reading of events: a monitor that was killed tells of no end.
type endedError int

func (e endedError) Error() string { return "ended with " + strconv.Itoa(int(e)) }

// watch waits for the end of a run that no event tells of.
func (w *waiting) watch(ctx context.Context, stop context.CancelCauseFunc) {
	_, _ = w.home.monitorOf(w.record).Wait(ctx)
	run, status, err := w.home.containers().Run(w.record.ID)
	if w.condition == WaitNextExit && err == nil && status == state.Exited {
		stop(endedError(run.ExitCode))
	}
}
