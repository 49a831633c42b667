package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// helperHandover starts a container and sleeps for a moment, to see the container through from there. Its
// arguments are the root directory, a script, and later the handover.
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
	begun := make(chan bool, 100)
	stdio := Stdio{In: silence{}, Out: writer(func(b []byte) { os.Stdout.Write(b); begun <- true }), Err: os.Stderr}
	p, err := Start(context.Background(), s, stdio)
	if err != nil {
		panic(err)
	}
	go p.Wait()
	<-begun
	panic(p.Handover(func(h Handover) error {
		text, err := json.Marshal(h)
		if err != nil {
			panic(err)
		}
		z := Sleep{Args: append(os.Args, string(text)), Timeout: 20 * time.Millisecond}
		z.Until, z.Keep = h.Descriptors()
		fmt.Println("asleep")
		return z.Do()
	}))
}

// silence is an input of which nothing comes.
type silence struct{}

func (silence) Read([]byte) (int, error) { select {} }

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// helperAdopt is the helper after it has slept.
func helperAdopt() {
	var h Handover
	if err := json.Unmarshal([]byte(os.Args[3]), &h); err != nil {
		panic(err)
	}
	in, answer := io.Pipe()
	p := Adopt(h, Stdio{In: in, Out: os.Stdout, Err: os.Stderr})
	fmt.Println("adopted", p.Pid() == h.Pid, len(h.Cgroups) > 0)
	if h.Console >= 0 {
		if err := p.Resize(33, 77); err != nil {
			panic(err)
		}
	}
	go io.WriteString(answer, "go\n")
	exit, err := p.Wait()
	left := slices.DeleteFunc(h.Cgroups, func(dir string) bool { _, err := os.Stat(dir); return err != nil })
	fmt.Printf("%+v %v left %v\n", exit, err, left)
}

// A program that sleeps hands its container on to the one that wakes: no output is lost or said twice, input arrives, and its end
// is known.
func TestHandover(t *testing.T) {
	root := rootfs(t)
	parent, err := findCgroups()
	need(t, "cgroups", err == nil && parent.dir["memory"] != "", Cgroups())
	for _, test := range []struct {
		script, terminal string
		want             []string
	}{
		{script: "echo one; read -r x; echo got $x; exit 9", want: []string{"one\nasleep\nadopted true true\ngot go\n", "{Code:9 Signal:0 OOM:false} <nil> left []"}},
		{script: "echo one; read -r line; stty size; exit 4", terminal: "yes", want: []string{"33 77\r\n", "{Code:4 Signal:0 OOM:false} <nil> left []"}},
		{script: "echo one; read -r x; exec dd if=/dev/zero of=/dev/shm/x bs=1M count=60", want: []string{"{Code:137 Signal:9 OOM:true} <nil> left []"}},
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
