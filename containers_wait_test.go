package forge

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/forge-build/forge/container/state"
)

// TestWaitedForRemoved: who has found that a container runs is told its exit status, also if it has ended and been removed right then.
func TestWaitedForRemoved(t *testing.T) {
	t.Parallel()
	h := &Home{Dir: t.TempDir()}
	r := &containerRecord{ID: state.NewID(), Name: "one", Created: time.Now()}
	if err := h.containers().Create(t.Context(), r, func() string { return "one" }); err != nil {
		t.Fatal(err)
	}
	h.containerEvent(r, "die", "exitCode", "3")
	since := time.Now()
	h.containerEvent(r, "die", "exitCode", "7")
	lock, err := h.containers().Lock(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.containers().Remove(t.Context(), r.ID, os.RemoveAll), lock.Close()); err != nil {
		t.Fatal(err)
	}
	h.containerEvent(r, "destroy")
	if code, err := h.waitRun(t.Context(), r, since); code != 7 || err != nil {
		t.Errorf("the status is %d, %v, want 7", code, err)
	}
	if _, err := h.waitRun(t.Context(), r, time.Now()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that there is no such container", err)
	}
}
