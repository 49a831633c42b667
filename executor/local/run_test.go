package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
)

func TestRunSurroundings(t *testing.T) {
	h := newRunHome(t)
	t.Setenv("BUILDER_ONLY", "1")
	for _, test := range []struct {
		name string
		op   *planner.Run
		want string
	}{
		{"environment", &planner.Run{Args: []string{"env"}, Env: []string{"A=b c", "PATH=/bin"}, Proxy: []string{"http_proxy=p"}}, "A=b c\nPATH=/bin\nhttp_proxy=p\nHOME=/root"},
		{"no PATH", &planner.Run{Args: []string{"env"}}, "PATH=" + runtime.DefaultPath + "\nHOME=/root"},
		{"own proxy", &planner.Run{Args: []string{"env"}, Env: []string{"PATH=/bin", "HOME=/", "http_proxy=mine"}, Proxy: []string{"http_proxy=p"}}, "PATH=/bin\nHOME=/\nhttp_proxy=mine"},
		{"process 1, umask, name", sh("echo $$; umask; hostname"), "1\n0022\nbuildkitsandbox"},
		{"both streams in order", sh("echo a; echo b >&2; echo c"), "a\nb\nc"},
		{"no input", sh("cat; echo $?"), "0"},
		{"user", &planner.Run{Args: []string{"/bin/sh", "-c", "id; echo $HOME"}, User: "me"}, "uid=1000(me) gid=1001(mine) groups=1001(mine),1002(others)\n/home/me"},
		{"unknown id", &planner.Run{Args: []string{"/bin/sh", "-c", "id; echo $HOME"}, User: "77"}, "uid=77 gid=0(root) groups=0(root)\n/"},
		{"streams of a user", &planner.Run{Args: []string{"/bin/sh", "-c", "echo x >/dev/stdout"}, User: "me"}, "x"},
		{"directory", &planner.Run{Args: []string{"pwd"}, Dir: "/etc"}, "/etc"},
		{"alone", sh("ls /sys/class/net; sleep 100 & cd /proc; echo [0-9]*"), "lo\n1 3"},
		{"capabilities", sh("grep CapEff /proc/self/status; grep Seccomp: /proc/self/status | cut -f2"), "CapEff:\t00000000a80425fb\n2"},
		{"hosts", sh("cat /etc/hosts"), "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback"},
		{"script", &planner.Run{Args: []string{"/dev/pipes/EOF", "x"}, Files: []planner.File{{Name: "EOF", Content: "#!/bin/sh\necho script $0 $1\n"}}}, "script /dev/pipes/EOF x"},
	} {
		if test.op.Dir == "" {
			test.op.Dir = "/"
		}
		if test.op.User != "" && oneID(t) {
			continue
		}
		_, got, err := h.do(test.op)
		if err != nil || got != test.want {
			t.Errorf("%s: printed %q, %v, want %q", test.name, got, err, test.want)
		}
	}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	for _, test := range []struct {
		name string
		op   *planner.Run
		code int
		want string
	}{
		{"exit code", sh("echo words; exit 42"), 42, "exit code 42"},
		{"signal", sh("kill -9 $$"), 0, ""}, // process 1 cannot kill itself
		{"not found", &planner.Run{Args: []string{"nonesuch"}}, 127, `exit code 127: exec: "nonesuch": executable file not found in $PATH`},
		{"no shell", &planner.Run{Args: []string{"/bin/bash", "-c", "x"}}, 127, `exit code 127: exec: "/bin/bash": no such file or directory`},
		{"not executable", &planner.Run{Args: []string{"/etc/passwd"}}, 126, `exit code 126: exec: "/etc/passwd": permission denied`},
		{"unknown user", &planner.Run{Args: []string{"true"}, User: "nobody-here"}, 0, "nobody-here"},
		{"hosts is mounted", sh("rm /etc/hosts"), 1, "exit code 1"},
		{"hosts is read-only", sh("echo 1.2.3.4 x >> /etc/hosts"), 1, "exit code 1"},
		{"resolv.conf is read-only", sh("echo x > /etc/resolv.conf"), 1, "exit code 1"},
		{"mount is forbidden", sh("mount -t tmpfs x /tmp"), 1, "exit code 1"},
	} {
		if test.op.Dir == "" {
			test.op.Dir = "/"
		}
		_, out, err := h.do(test.op)
		if test.want == "" {
			continue
		}
		failure, ok := errors.AsType[*executor.StepError](err)
		if !ok || failure.ExitCode != test.code || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error = %v (%s), want %q with exit code %d", test.name, err, out, test.want, test.code)
		}
		if ok && test.code == 42 && string(failure.Tail) != "words" {
			t.Errorf("%s: tail = %q", test.name, failure.Tail)
		}
	}
}

func TestRunLayers(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	for _, test := range []struct {
		name string
		op   *planner.Run
		want string
	}{
		{"nothing", sh("true"), ""},
		{"a file", sh("echo x > /etc/x"), "etc etc/x"},
		{"in mounts", sh("echo x > /dev/shm/x; echo y > /dev/y"), ""},
		{"mount points", sh("touch /new/place/x", planner.Mount{Type: planner.Tmpfs, Target: "/new/place"}), ""},
		{"beside a mount point", sh("touch /new/x", planner.Mount{Type: planner.Tmpfs, Target: "/new/place"}), "new new/x"},
		{"missing directory", &planner.Run{Args: []string{"pwd"}, Dir: "/some/where"}, "some some/where"},
		{"scripts", &planner.Run{Args: []string{"/dev/pipes/E"}, Dir: "/", Files: []planner.File{{Name: "E", Content: "#!/bin/sh\n"}}}, ""},
	} {
		r, out, err := h.do(test.op)
		if err != nil {
			t.Errorf("%s: %v (%s)", test.name, err, out)
			continue
		}
		if got := h.names(last(r)); got != test.want {
			t.Errorf("%s: layer has %q, want %q", test.name, got, test.want)
		}
	}
}

func TestRunOnNothing(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	g, base := h.on()
	_ = base
	// A busybox at another place, copied by a mount: the file system begins empty.
	op := sh("", planner.Mount{Type: planner.Bind, Target: "/b", Source: "/bin", From: &planner.Input{Read: 0}, ReadOnly: true})
	op.Args = []string{"/b/busybox", "true"}
	r, out, err := h.build(g.graph(g.add(op, nil, base)))
	if err != nil {
		t.Fatal(err, out)
	}
	if got, want := h.names(last(r)), "dev proc sys"; got != want {
		t.Errorf("layer has %q, want %q", got, want)
	}
}

func TestRunReproducible(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	epoch := time.Unix(1700000000, 0)
	h.epoch = &epoch
	var ids []string
	for range 2 {
		g, on := h.on()
		g.steps[0].NoCache = true
		s := g.run("", on)
		s.Op, s.NoCache = sh("mkdir /d; echo x > /d/x; ln /d/x /d/y; ln -s x /d/z"), true
		r, out, err := h.build(g.graph(s))
		if err != nil {
			t.Fatal(err, out)
		}
		ids = append(ids, last(r).DiffID.String())
		time.Sleep(10 * time.Millisecond)
	}
	if ids[0] != ids[1] {
		t.Errorf("two layers of one command: %s and %s", ids[0], ids[1])
	}
}

func TestRunEndsWithItsCommand(t *testing.T) {
	t.Parallel()
	// What is left in the background would outlast the test's own time.
	newRunHome(t).prints(sh("sleep 987655 & sleep 987655 & echo done"))
}

func TestRunCancelled(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := h.options()
	o.Events = func(e event.Event) {
		if e.Text == "ready" {
			cancel()
		}
	}
	g, on := h.on()
	mark := fmt.Sprint(time.Now().UnixNano() % 1e9) // seconds: long, and nobody else's
	_, err := buildOne(ctx, g.graph(g.add(sh("echo ready; sleep "+mark), on)), o)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want %v", err, context.Canceled)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if line, _ := os.ReadFile(p); strings.Contains(string(line), mark) {
			t.Errorf("%s is still there: %q", p, line)
		}
	}
}

func TestRunWithoutSandbox(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	host := sh("readlink /proc/self/ns/net")
	host.Network = "host"
	insecure := sh("grep CapEff /proc/self/status; mount -t tmpfs x /tmp && echo mounted")
	insecure.Insecure = true
	here := must1(os.Readlink("/proc/thread-self/ns/net"))(t)
	if got := h.prints(host); got != here {
		t.Errorf("the command is in %s, want the host's %s", got, here)
	}
	if got := h.prints(insecure); !strings.HasSuffix(got, "\nmounted") {
		t.Errorf("insecure printed %q", got)
	}
}

func TestMkdir(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	dir := func(path, user string) *planner.Mkdir { return &planner.Mkdir{Path: path, User: user} }
	for _, test := range []struct {
		name  string
		below *planner.Run
		op    *planner.Mkdir
		want  string // its layer
		owner string // of op.Path
		err   string
	}{
		{"new", nil, dir("/a/b", ""), "a a/b", "0:0 755", ""},
		{"there", nil, dir("/etc", ""), "", "0:0 755", ""},
		{"of a user", nil, dir("/a/b", "me"), "a a/b", "1000:1001 755", ""},
		{"of user and group", nil, dir("/a", "me:root"), "a", "1000:0 755", ""},
		{"of a number", nil, dir("/a", "7"), "a", "7:7 755", ""},
		{"of nobody known", nil, dir("/a", "nonesuch"), "a", "0:0 755", ""},
		{"through a link", sh("ln -s /tmp /l"), dir("/l/x", ""), "tmp tmp/x", "0:0 755", ""},
		{"through a link to nothing", sh("ln -s ../../gone /l"), dir("/l/x", ""), "gone gone/x", "0:0 755", ""},
		{"a file", nil, dir("/etc/passwd", ""), "", "", "/etc/passwd is not a directory"},
		{"below a file", nil, dir("/etc/passwd/x", ""), "", "", "ot a directory"},
		{"a loop", sh("ln -s /l /l"), dir("/l/x", ""), "", "", "too many"},
		{"tilde", nil, dir("/~", ""), "~", "0:0 755", ""},
	} {
		ops := []planner.Op{test.op}
		if test.below != nil {
			ops = []planner.Op{test.below, test.op}
		}
		r, _, err := h.do(ops...)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error = %v, want %q", test.name, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		// The parents' times change in no mount, so that only what is made is there.
		got := h.names(last(r))
		for _, p := range []string{"tmp "} {
			got = strings.TrimPrefix(got, p)
		}
		if want := strings.TrimPrefix(test.want, "tmp "); got != want {
			t.Errorf("%s: layer has %q, want %q", test.name, got, want)
		}
		out := h.prints(append(ops, sh("stat -c '%u:%g %a' "+test.op.Path))...)
		if out != test.owner && !oneID(t) {
			t.Errorf("%s: owner and mode are %s, want %s", test.name, out, test.owner)
		}
	}
}

// BenchmarkRunTrue does fifty steps that do nothing, one on another, on busybox.
func BenchmarkRunTrue(b *testing.B) {
	const steps = 50
	h := newRunHome(b)
	for i := 0; b.Loop(); i++ {
		g, on := h.on()
		for k := range steps {
			on = g.add(sh(fmt.Sprintf("true %d %d", i, k)), on)
		}
		if _, _, err := h.build(g.graph(on)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*steps), "µs/step")
}

// BenchmarkNoop does nothing again, in twelve steps.
func BenchmarkNoop(b *testing.B) {
	h := newRunHome(b)
	var ops []planner.Op
	for i := range 12 {
		ops = append(ops, sh(fmt.Sprint("true ", i)))
	}
	h.prints(ops...)
	for b.Loop() {
		if r, _, err := h.do(ops...); err != nil || r.Done > 0 {
			b.Fatal(err, r.Done)
		}
	}
}
