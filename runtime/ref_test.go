package runtime

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A record names one process, not whoever has its number.
func TestOpen(t *testing.T) {
	r, w := io.Pipe()
	s := Spec{Root: openDir(t, rootfs(t)), Args: []string{"sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done"}, Env: []string{"PATH=/bin"}}
	p, err := Start(context.Background(), s, Stdio{Out: w})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	ref, err := p.Ref()
	if err != nil {
		t.Fatal(err)
	}
	target, err := Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	for _, other := range []Ref{{Pid: ref.Pid, Started: ref.Started - 1}, {Pid: 0}, {Pid: 1 << 30}} {
		if _, err := Open(other); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("a process that is not %+v: %v", other, err)
		}
	}
	if err := target.Signal(unix.SIGUSR1); err != nil {
		t.Error(err)
	}
	if exit, err := p.Wait(); exit.Code != 9 || err != nil {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if err := target.Signal(unix.SIGUSR1); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to the dead: %v", err)
	}
	if _, err := Open(ref); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("open the dead: %v", err)
	}
	if _, err := p.Ref(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("reference to the dead: %v", err)
	}
}
