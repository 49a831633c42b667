package forge

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/event"
)

// TestPatience: who waits for a container that another command uses is told so, once, and by whom.
func TestPatience(t *testing.T) {
	t.Parallel()
	h := &Home{Dir: t.TempDir()}
	r := &containerRecord{ID: state.NewID(), Name: "one", Created: time.Now()}
	if err := h.containers().Create(t.Context(), r, func() string { return "one" }); err != nil {
		t.Fatal(err)
	}
	lock, err := h.containers().Lock(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	err = h.RemoveContainer(t.Context(), "one", RemoveContainerOptions{Force: true, Events: func(e event.Event) {
		told = append(told, e.Text)
		lock.Close()
	}})
	if err != nil {
		t.Error(err)
	}
	self, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	want := "waiting for another command that uses container one"
	by := fmt.Sprintf("%s (process %d, %s)", want, os.Getpid(), strings.TrimSpace(string(self)))
	if len(told) != 1 || told[0] != by && told[0] != want { // not every file system has the number that the kernel lists locks by
		t.Errorf("told %q, want %q", told, by)
	}
}
