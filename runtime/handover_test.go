package runtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helperHandover starts a container and executes itself anew, to see the container through from there. Its arguments are
// the root directory, a script, and later the handover.
func helperHandover() {
	if len(os.Args) > 3 {
		helperAdopt()
		return
	}
	root, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	s := Spec{Root: root, Args: []string{"sh", "-c", os.Args[2]}, Env: []string{"PATH=/bin"}, Limits: Limits{Memory: 32 << 20}}
	s.Terminal = os.Getenv("SPEC_TERMINAL") != ""
	stdio := Stdio{Out: os.Stdout, Err: os.Stdout}
	if s.Terminal {
		stdio = Stdio{}
	}
	p, err := Start(context.Background(), s, stdio)
	if err != nil {
		panic(err)
	}
	h, err := p.Handover()
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(h)
	if err != nil {
		panic(err)
	}
	panic(syscall.Exec("/proc/self/exe", append(os.Args, string(text)), os.Environ()))
}

// helperAdopt is the helper after it executed itself.
func helperAdopt() {
	var h Handover
	if err := json.Unmarshal([]byte(os.Args[3]), &h); err != nil {
		panic(err)
	}
	p := Adopt(h)
	fmt.Println("adopted", p.Pid() == h.Pid, len(h.Cgroups) > 0)
	if c := p.Console(); c != nil {
		if err := p.Resize(33, 77); err != nil {
			panic(err)
		}
		io.WriteString(c, "go\n")
		_, _ = io.Copy(os.Stdout, c)
	} else {
		go func() { // until it has a handler
			for ; p.Signal(unix.SIGUSR1) == nil; time.Sleep(10 * time.Millisecond) {
			}
		}()
	}
	exit, err := p.Wait()
	left := slices.DeleteFunc(h.Cgroups, func(dir string) bool { _, err := os.Stat(dir); return err != nil })
	fmt.Printf("%+v %v left %v\n", exit, err, left)
}

// A program that executes another in its own place hands its container on.
func TestHandover(t *testing.T) {
	root := rootfs(t)
	parent, err := findCgroups()
	need(t, "cgroups", err == nil && parent.dir["memory"] != "", Cgroups())
	for _, test := range []struct {
		script, terminal string
		want             []string
	}{
		{script: "trap 'exit 9' USR1; while :; do sleep 0.01; done", want: []string{"adopted true true\n", "{Code:9 Signal:0 OOM:false} <nil> left []"}},
		{script: "read -r line; stty size; exit 4", terminal: "yes", want: []string{"33 77\r\n", "{Code:4 Signal:0 OOM:false} <nil> left []"}},
		{script: "trap '' USR1; exec dd if=/dev/zero of=/dev/shm/x bs=1M count=60", want: []string{"{Code:137 Signal:9 OOM:true} <nil> left []"}},
	} {
		cmd := helper(t, "handover", 0, root, test.script)
		cmd.Env = append(cmd.Env, "SPEC_TERMINAL="+test.terminal)
		got := output(cmd)
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in:\n%s", test.script, want, got)
			}
		}
	}
}

// What is copied by this program cannot be handed on.
func TestHandoverOfCopies(t *testing.T) {
	var out bytes.Buffer
	s := Spec{Root: openDir(t, rootfs(t)), Args: []string{"sleep", "100"}, Env: []string{"PATH=/bin"}}
	p, err := Start(context.Background(), s, Stdio{Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := p.Handover(); err == nil {
		t.Errorf("handover of a process with copied output: %+v", h)
	}
	p.Signal(os.Kill)
	p.Wait()
}

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
