package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// twoStages is a build of parallel stages that run commands, copy and write.
const twoStages = `FROM base AS one
RUN echo one NONCE > /one && mkdir /d && for i in 1 2 3 4 5 6 7 8 9; do echo $i > /d/$i; done
FROM base AS two
RUN --mount=type=cache,target=/cache echo two NONCE > /two && echo more >> /cache/x && ln /two /three
FROM base
COPY file /file
COPY --from=one /one /d /
COPY --from=two /two /three /
RUN cat /one /two /file > /all && rm /one
CMD ["cat", "/all"]
`

// TestKillAtRandom kills builds, loads and prunes at random times. The store is sound each time, and after one prune
// nothing is left.
func TestKillAtRandom(t *testing.T) {
	k := newKit(t)
	address, _ := k.serve("registry")
	remote := address + "/app:1"
	k.base()
	k.context("app", twoStages)
	k.must("build", "-q", "-t", "first", "app")
	k.must("save", "-o", "first.tar", "first")
	k.must("tag", "first", remote)
	k.must("push", remote)
	kinds := [][]string{
		{"build", "--no-cache", "-t", "app", "app"},
		{"build", "--no-cache", "-t", "first", "app"},
		{"load", "-i", "first.tar"},
		{"system", "prune", "-f"},
		{"run", "--rm", "base", "sh", "-c", "echo " + k.nonce + " > /x; sleep 0.05; cat /x"},
		{"system", "prune", "-a", "-f"},
		{"pull", remote},
		{"build", "--no-cache", "-t", remote, "app"},
		{"push", remote},
	}
	times := map[string]time.Duration{}
	killed, deadline := 0, time.Now().Add(time.Minute)
	n := scale(t, "FORGE_TEST_KILLS", 18)
	for i := range n {
		if n <= 18 && time.Now().After(deadline) {
			break // a slow machine
		}
		args := kinds[i%len(kinds)]
		line := strings.Join(args, " ")
		k.prepare(args)
		if times[line] == 0 {
			begun := time.Now()
			k.must(args...)
			times[line] = time.Since(begun)
			k.prepare(args)
		}
		a := k.start(k.command(args...))
		time.Sleep(rand.N(times[line] + times[line]/8 + time.Millisecond))
		_ = a.Process.Kill()
		_ = a.Wait()
		k.inspect(a)
		if a.signal() == syscall.SIGKILL {
			killed++
		}
		k.sound(fmt.Sprintf("kill of %s", line))
		if i%4 == 3 {
			k.tidy("kill of " + line)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	k.tidy("random kills")
	if killed == 0 {
		t.Errorf("of %d runs none was killed", n)
	}
	t.Logf("%d of %d runs killed", killed, n)
}

// prepare sees to it that a command has something to do.
func (k *kit) prepare(args []string) {
	k.t.Helper()
	if args[0] == "pull" {
		k.must("system", "prune", "-a", "-f")
		return
	}
	if !slices.Contains(k.images(), "base:latest") {
		k.base()
	}
	if name := args[len(args)-1]; args[0] == "push" && !slices.Contains(k.images(), name) {
		k.must("build", "-q", "-t", name, "app")
	}
}

// TestInterrupt ends builds and runs by signals: the exit status tells, it does not take long, and nothing is left even
// without a prune. The second signal ends the program at once.
func TestInterrupt(t *testing.T) {
	k := newKit(t)
	k.base()
	k.context("slow", "FROM base AS a\nRUN echo NONCE; trap '' INT TERM; sleep 600\nFROM base AS b\nRUN echo x > /x; sleep 601 NONCE\nFROM base\nCOPY --from=a / /\nCOPY --from=b / /\n")
	for _, test := range []struct {
		signal syscall.Signal
		status int
		args   []string
	}{
		{syscall.SIGINT, 130, []string{"build", "--progress=plain", "-t", "app", "slow"}},
		{syscall.SIGTERM, 143, []string{"build", "--progress=plain", "-t", "app", "slow"}},
		{syscall.SIGTERM, 143, []string{"run", "--rm", "base", "sh", "-c", "echo " + k.nonce + "; exec sleep 600"}},
	} {
		a := k.command(test.args...)
		began := make(chan struct{})
		w := &waiter{word: k.nonce, found: began}
		a.Stdout, a.Stderr = w, w
		k.start(a)
		select {
		case <-began:
		case <-time.After(time.Minute):
			t.Fatalf("forge %s: does not begin", a)
		}
		time.Sleep(50 * time.Millisecond)
		sent := time.Now()
		_ = a.Process.Signal(test.signal)
		if test.args[0] == "run" { // the first is the command's, which as process 1 does not hear it
			for range maxIgnoredSignals - 1 {
				time.Sleep(20 * time.Millisecond)
				_ = a.Process.Signal(test.signal)
			}
		}
		_ = a.Wait()
		if took := time.Since(sent); took > time.Minute {
			t.Errorf("forge %s: took %v to end by %v", a, took, test.signal)
		}
		if a.status() != test.status {
			t.Errorf("forge %s: %v after %v, want status %d", a, a.ProcessState, test.signal, test.status)
		}
		k.spotless(test.signal.String())
	}
	k.tidy("signals")
	if got := k.images(); !slices.Equal(got, []string{"base:latest"}) {
		t.Errorf("images = %v", got)
	}
}

// A waiter tells when a word is written.
type waiter struct {
	word  string
	text  strings.Builder
	found chan struct{}
	told  bool
}

func (w *waiter) Write(p []byte) (int, error) {
	w.text.Write(p)
	if !w.told && strings.Contains(w.text.String(), w.word) {
		w.told = true
		close(w.found)
	}
	return len(p), nil
}

// TestStrangeStore opens stores that are not what this program makes.
func TestStrangeStore(t *testing.T) {
	k := newKit(t)
	k.base()
	version := filepath.Join(k.root, "version")
	for _, test := range []struct {
		text string
		ok   bool
	}{{"forge store 3\n", false}, {"garbage", false}, {"", true}, {"forge store 1\n", true}, {"forge store 2\n", true}} {
		if err := os.WriteFile(version, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		a := k.do(k.command("images"))
		if a.ProcessState.Success() != test.ok {
			t.Errorf("store of version %q: %v: %s", test.text, a.ProcessState, a.err.String())
		}
		if !test.ok && (!strings.Contains(a.err.String(), k.root) || !strings.Contains(a.err.String(), strings.TrimSpace(test.text))) {
			t.Errorf("store of version %q: message %q tells neither where nor what", test.text, a.err.String())
		}
	}
	k.sound("all")
}

// TestModes looks at the state directory: nothing in it is for others.
func TestModes(t *testing.T) {
	k := newKit(t)
	k.base()
	k.context("app", twoStages)
	k.must("build", "-q", "-t", "app", "app")
	info, err := os.Stat(k.root)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("%s: mode %v", k.root, info.Mode())
	}
}

// TestStoreDescribed holds docs/store.md and what is in a store together.
func TestStoreDescribed(t *testing.T) {
	k := newKit(t)
	address, _ := k.serve("registry")
	remote := address + "/app:1"
	k.base()
	k.context("app", twoStages)
	k.must("build", "-q", "-t", remote, "app")
	k.must("push", remote)
	k.must("system", "prune", "-a", "-f")
	k.must("pull", remote)
	k.must("--snapshotter=overlay", "run", "--rm", remote, "true")
	page, err := os.ReadFile("../../docs/store.md")
	if err != nil {
		t.Fatal(err)
	}
	found, err := os.ReadDir(k.root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		name := "\n" + f.Name()
		if f.IsDir() {
			name += "/"
		}
		if !strings.Contains(string(page), name+" ") {
			t.Errorf("docs/store.md does not describe %s", f.Name())
		}
	}
}
