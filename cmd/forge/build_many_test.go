package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestTargetsInterrupt interrupts a build while the commands of its three targets run: none of them is tagged, and nothing is left.
func TestTargetsInterrupt(t *testing.T) {
	k := newKit(t)
	k.base()
	args := []string{"build", "--progress=plain", "-t", "m/{name}"}
	var running []chan struct{}
	var watch []io.Writer
	for _, name := range []string{"a", "b", "c"} {
		// What the display shows of the instruction is not the word that its command prints.
		k.context(name, fmt.Sprintf("FROM base\nRUN echo be''gun-%s; trap '' INT TERM; sleep 600 # NONCE\n", name))
		args = append(args, name)
		running = append(running, make(chan struct{}))
		watch = append(watch, &waiter{word: "begun-" + name, found: running[len(running)-1]})
	}
	a := k.command(args...)
	a.Stdout = io.MultiWriter(append(watch, &a.out)...)
	a.Stderr = a.Stdout
	k.start(a)
	for _, begun := range running {
		select {
		case <-begun:
		case <-time.After(time.Minute):
			t.Fatalf("forge %s: three commands do not run at once", a)
		}
	}
	_ = a.Process.Signal(os.Interrupt)
	_ = a.Wait()
	if a.status() != 130 {
		t.Errorf("forge %s: %v after an interrupt, want status 130\n%s", a, a.ProcessState, a.out.String())
	}
	if n := bytes.Count(a.out.Bytes(), []byte(" CANCELED ")); n != 3 {
		t.Errorf("%d steps were canceled, want 3:\n%s", n, a.out.String())
	}
	k.spotless("an interrupt")
	if got := k.images(); !slices.Equal(got, []string{"base:latest"}) {
		t.Errorf("images = %v", got)
	}
	k.tidy("an interrupt")
}

// TestTargetsMemory holds that twenty targets at once, each with a file of its own, take at most 96 MB, which is less than their files.
func TestTargetsMemory(t *testing.T) {
	const targets, fileSize = 20, 8 << 20
	k := newKit(t)
	k.base()
	args := []string{"build", "-q", "-t", "m/{name}"}
	for i := range targets {
		name := fmt.Sprintf("t%d", i)
		dir := k.context(name, "FROM base\nRUN echo NONCE > /shared\nCOPY file large /\n")
		large := filepath.Join(dir, "large")
		if err := os.WriteFile(large, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(large, fileSize); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	a := k.start(k.command(args...))
	peak, err := waitPeak(a.Cmd)
	if err != nil || bytes.Count(a.out.Bytes(), []byte("sha256:")) != targets {
		t.Fatalf("forge %s: %v\n%s%s", a, a.ProcessState, a.out.String(), a.err.String())
	}
	t.Logf("%d MB", peak>>10)
	if peak == 0 || peak > 96<<10 {
		t.Errorf("%d targets of %d MB each take %d MB", targets, fileSize>>20, peak>>10)
	}
}
