package main

import (
	"bufio"
	"syscall"
	"testing"
)

// TestStartSignals sends signals to who has started a container and stays with it: they are the container's.
func TestStartSignals(t *testing.T) {
	k := newKit(t)
	k.base()
	k.must("create", "--name", "web", "--network", "none", "base", "sh", "-c",
		`trap "echo term; exit 5" TERM; trap "echo hup; exit 6" HUP; echo up; while :; do sleep 0.01; done`)
	for signal, want := range map[syscall.Signal]int{syscall.SIGTERM: 5, syscall.SIGHUP: 6} {
		a := k.command("start", "-a", "web")
		a.Stdout = nil
		out, err := a.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		k.start(a)
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("it does not come up: %v\n%s", err, a.err.String())
		}
		if err := a.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = a.Wait()
		if a.status() != want {
			t.Errorf("%v: exit status %d, want %d\n%s", signal, a.status(), want, a.err.String())
		}
	}
	k.must("rm", "-f", "web")
}
