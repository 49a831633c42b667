package forge

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestFollowedMonitorEnds: of a monitor that ends before its container is started, or is killed as nobody waits for that, no zombie is left.
func TestFollowedMonitorEnds(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"ends": "", "says why": `{"error":"why"}`, "killed": "-"} {
		reports, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command("sh", "-c", `[ "$0" != - ] || exec sleep 1000; echo "$0" >&3`, text)
		child.ExtraFiles = []*os.File{w}
		if err := errors.Join(child.Start(), w.Close()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if name == "killed" {
			cancel()
		}
		pid := child.Process.Pid
		if err := (&Home{}).follow(ctx, pid, reports, nil); err == nil {
			t.Errorf("%s: it is said to have started its container", name)
		}
		cancel()
		reports.Close()
		if _, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); err != syscall.ECHILD { //nolint:errorlint // the number itself
			t.Errorf("%s: process %d is left: %v", name, pid, err)
		}
	}
}
